/* An example: answers the texts given as arguments, or the lines of standard input (of a pair, the two texts are
 * separated by a tab). Prints label and confidence. */
#include "model.h"

#include <stdio.h>
#include <string.h>

static int show(const char *first, const char *second)
{
    float probabilities[MINIKIN_CLASSES];
#if MINIKIN_PAIR
    int label = minikin_classify_pair(first, strlen(first), second, strlen(second), probabilities);
#else
    int label = minikin_classify(first, strlen(first), probabilities);
    (void)second;
#endif
    if (label < 0) {
        fprintf(stderr, "no answer: code %d\n", label);
        return 1;
    }
    printf("%s\t%.4f\n", minikin_labels[label], (double)probabilities[label]);
    return 0;
}

/* One line without its end; what does not fit is left out. Returns 0 at the end of the input. */
static int read_line(char *line, size_t room)
{
    size_t n = 0;
    int c = getchar();
    if (c == EOF)
        return 0;
    for (; c != EOF && c != '\n'; c = getchar())
        if (n + 1 < room)
            line[n++] = (char)c;
    line[n > 0 && line[n - 1] == '\r' ? n - 1 : n] = '\0';
    return 1;
}

int main(int count, char **arguments)
{
    static char line[1 << 16];
    int failed = 0;
    for (int i = 1; i < count; i += 1 + MINIKIN_PAIR)
        failed |= show(arguments[i], MINIKIN_PAIR && i + 1 < count ? arguments[i + 1] : "");
    if (count > 1)
        return failed;
    while (read_line(line, sizeof line)) {
        char *tab = MINIKIN_PAIR ? strchr(line, '\t') : NULL;
        if (tab)
            *tab++ = '\0';
        failed |= show(line, tab ? tab : "");
    }
    return failed;
}
