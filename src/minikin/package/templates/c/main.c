/* An example: answers the texts given as arguments, or the lines of standard input (of a pair, the two texts are
 * separated by a tab). Prints label and confidence. */
#include "model.h"

#include <stdio.h>
#include <string.h>

static int show(const char *first, size_t first_bytes, const char *second, size_t second_bytes)
{
    float probabilities[MINIKIN_CLASSES];
#if MINIKIN_PAIR
    int label = minikin_classify_pair(first, first_bytes, second, second_bytes, probabilities);
#else
    int label = minikin_classify(first, first_bytes, probabilities);
    (void)second, (void)second_bytes;
#endif
    if (label < 0) {
        fprintf(stderr, "no answer: code %d\n", label);
        return 1;
    }
    printf("%s\t%.4f\n", minikin_labels[label], (double)probabilities[label]);
    return 0;
}

/* One line without its end, which may hold any byte; what does not fit is left out. Returns its length, or -1 at the
 * end of the input. */
static long read_line(char *line, long room)
{
    long n = 0;
    int c = getchar();
    if (c == EOF)
        return -1;
    for (; c != EOF && c != '\n'; c = getchar())
        if (n < room)
            line[n++] = (char)c;
    return n > 0 && line[n - 1] == '\r' ? n - 1 : n;
}

int main(int count, char **arguments)
{
    static char line[1 << 16];
    int failed = 0;
    long n;
    for (int i = 1; i < count; i += 1 + MINIKIN_PAIR) {
        const char *second = MINIKIN_PAIR && i + 1 < count ? arguments[i + 1] : "";
        failed |= show(arguments[i], strlen(arguments[i]), second, strlen(second));
    }
    if (count > 1)
        return failed;
    while ((n = read_line(line, (long)sizeof line)) >= 0) {
        const char *end = line + n, *tab = MINIKIN_PAIR ? memchr(line, '\t', (size_t)n) : NULL;
        const char *second = tab ? tab + 1 : end;
        failed |= show(line, (size_t)((tab ? tab : end) - line), second, (size_t)(end - second));
    }
    return failed;
}
