/* libFuzzer: any bytes as a section, and any text through a whole section.
   clang -g -O1 -fsanitize=fuzzer,address,undefined -I../../src/minikin/kernel fuzz_tokenizer.c \
       ../../src/minikin/kernel/tokenizer.c -o fuzz_tokenizer && ./fuzz_tokenizer corpus
   An input is a byte, two bytes of length n, a section of n bytes, and the text. The first byte is the capacity.
   Sections from package/tokenizer_section.py make a good corpus. */
#include <stdlib.h>
#include <string.h>

#include "tokenizer.h"

static void require(int holds)
{
    if (!holds)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { HEAD = 3, MOST_WORK = 1 << 20 };
    if (size < HEAD)
        return 0;
    size_t section_size = (size_t)data[1] | (size_t)data[2] << 8;
    section_size = section_size < size - HEAD ? section_size : size - HEAD;
    int capacity = data[0], truncated = -1;
    size_t text_size = size - HEAD - section_size;

    /* Copies of the exact sizes, so that a byte read beyond them is seen. */
    uint8_t *section = malloc(section_size + 1), *text = malloc(text_size + 1);
    int32_t *ids = malloc((size_t)capacity * sizeof *ids + 1);
    section = realloc(section, section_size ? section_size : 1);
    text = realloc(text, text_size ? text_size : 1);
    memcpy(section, data + HEAD, section_size);
    memcpy(text, data + HEAD + section_size, text_size);

    mk_tokenizer t;
    if (mk_tokenizer_open(&t, section, section_size) == 0) {
        size_t needed = mk_tokenizer_work(&t, text_size), work_size = needed < MOST_WORK ? needed : MOST_WORK;
        uint32_t *work = malloc(work_size ? work_size : 1);
        int count = mk_tokenize(&t, (const char *)text, text_size, ids, capacity, &truncated, work, work_size);
        require(count <= capacity && (truncated == 0 || truncated == 1));
        require(count >= 0 || (count == MK_TOKENIZER_WORK && work_size < needed));
        for (int i = 0; i < count; i++)
            require(ids[i] >= 0 && (uint32_t)ids[i] < t.vocab_size);
        free(work);
    }
    free(section);
    free(text);
    free(ids);
    return 0;
}
