/* A libFuzzer harness for an exported model.c, which it includes to reach what is static there:
 *
 *   minikin export kin/ --to c -o out
 *   clang -O2 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -Iout tests/export/fuzz_model.c -o fuzz && ./fuzz
 *
 * The first byte of an input chooses: a text to classify, or changes to the model file (of three bytes each: where,
 * and what), whose checksum is then made true again. A file that still opens must answer. With -DFUZZ_TEXTS or
 * -DFUZZ_FILES all inputs are of one kind. */
#include "model.c"

#include <stdlib.h>

static void answer_with(const mk_model *m, const char *first, size_t first_n, const char *second, size_t second_n)
{
    size_t work_size = mk_tokenizer_work(&m->tokenizer, SIZE_MAX), room_size = mk_workspace(m, m->positions, 1);
    int32_t *their_ids = malloc((size_t)mk_ids_room(m) * sizeof *their_ids);
    void *their_work = malloc(work_size + 4), *room = aligned_alloc(64, room_size);
    float *their_answers = malloc((size_t)m->classes * sizeof *their_answers);
    if (their_ids && their_work && room && their_answers) {
        mk_text text = mk_read(m, first, first_n, second, second_n, their_ids, their_work, work_size);
        mk_answer(m, their_ids, &text, 1, room, their_answers, NULL);
    }
    free(their_ids);
    free(their_work);
    free(room);
    free(their_answers);
}

static void open_changed(const uint8_t *data, size_t size)
{
    static mk_model opened;
    static const char first[] = "where is my c\xc3\xa1rd, and the refund? \xe6\xbc\xa2", second[] = "top-up failed";
    size_t length = MINIKIN_MODEL_BYTES;
    uint8_t *bytes = aligned_alloc(64, length);
    uint32_t crc;
    if (!bytes)
        return;
    memcpy(bytes, model_words, length);
    for (; size >= 3; data += 3, size -= 3) {
        size_t at = (size_t)data[0] | (size_t)data[1] << 8;
        /* most changes go to header, sections and tokenizer; odd places are spread over the whole file */
        at = at & 1 ? at * 65521u % length : at / 2 % length;
        bytes[at] = data[2];
    }
    if (size == 2)
        length = length * data[0] / 256;
    crc = length > 16 ? crc_of(bytes + 16, length - 16) : 0;
    if (size != 1)
        memcpy(bytes + 12, &crc, sizeof crc);
    if (mk_open(&opened, bytes, length) == MK_OK) {
        answer_with(&opened, first, sizeof first - 1, opened.pair ? second : NULL, opened.pair ? sizeof second - 1 : 0);
        answer_with(&opened, "", 0, opened.pair ? "" : NULL, 0);
    }
    free(bytes);
}

static void classify(const uint8_t *data, size_t size)
{
    /* copies of the exact size, so that reading beyond it is seen */
    char *text = malloc(size ? size : 1);
    int label;
    if (!text)
        return;
    memcpy(text, data, size);
#if MINIKIN_PAIR
    label = minikin_classify_pair(text, size / 2, text + size / 2, size - size / 2, NULL);
#else
    label = minikin_classify(text, size, NULL);
#endif
    if (label < 0 || label >= MINIKIN_CLASSES)
        abort();
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
#if defined(FUZZ_TEXTS)
    classify(data, size);
#elif defined(FUZZ_FILES)
    open_changed(data, size);
#else
    if (size > 0 && data[0] & 1)
        classify(data + 1, size - 1);
    else if (size > 0)
        open_changed(data + 1, size - 1);
#endif
    return 0;
}
