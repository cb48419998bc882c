
/* ---- the model, and what model.h declares ---- */

#define WORKSPACE_BYTES {{ workspace }}
#define WORK_BYTES {{ work }} /* of the tokenizer */
#define IDS {{ ids }}

const char *const minikin_labels[MINIKIN_CLASSES] = {
{{ labels }}
};

static const uint64_t model_words[MINIKIN_MODEL_BYTES / 8] __attribute__((aligned(64))) = {
{{ words }}
};

static mk_model model;
static int is_open, was_cut;
static uint8_t workspace[WORKSPACE_BYTES] __attribute__((aligned(64)));
static uint8_t work[WORK_BYTES ? WORK_BYTES : 4] __attribute__((aligned(4)));
static int32_t ids[IDS];
static float answers[MINIKIN_CLASSES];

typedef char minikin_static_bytes_are_true[sizeof model + sizeof workspace + sizeof work + sizeof ids + sizeof answers <=
                                                   MINIKIN_STATIC_BYTES
                                               ? 1
                                               : -1];

/* Check the model once; the sizes that were counted when it was written must be those that the code wants. */
static int open_once(void)
{
    if (!is_open)
        is_open = mk_open(&model, model_words, sizeof model_words) == MK_OK && model.classes == MINIKIN_CLASSES &&
                  model.positions == MINIKIN_MAX_TOKENS && mk_ids_room(&model) == IDS &&
                  mk_workspace(&model, MINIKIN_MAX_TOKENS, 1) == WORKSPACE_BYTES &&
                  mk_tokenizer_work(&model.tokenizer, SIZE_MAX) == WORK_BYTES;
    return is_open;
}

static int answer(const char *first, size_t first_n, const char *second, size_t second_n, float *probabilities)
{
    mk_text text;
    int best = 0;
    if (!open_once())
        return MINIKIN_DAMAGED;
    text = mk_read(&model, first, first_n, second, second_n, ids, work, sizeof work);
    mk_answer(&model, ids, &text, 1, workspace, answers, NULL);
    was_cut = text.truncated;
    for (int i = 1; i < MINIKIN_CLASSES; i++)
        if (answers[i] > answers[best])
            best = i;
    if (probabilities)
        memcpy(probabilities, answers, sizeof answers);
    return best;
}

#if MINIKIN_PAIR
int minikin_classify_pair(const char *first, size_t first_n, const char *second, size_t second_n, float *probabilities)
{
    return first && second ? answer(first, first_n, second, second_n, probabilities) : MINIKIN_NO_TEXT;
}
#else
int minikin_classify(const char *utf8, size_t n, float *probabilities)
{
    return utf8 ? answer(utf8, n, NULL, 0, probabilities) : MINIKIN_NO_TEXT;
}
#endif

int minikin_truncated(void)
{
    return was_cut;
}

const char *minikin_instructions(void)
{
    return mk_instructions();
}

int minikin_use(const char *instructions)
{
    return mk_use(instructions);
}
