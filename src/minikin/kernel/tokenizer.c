#include "tokenizer.h"

#if __STDC_HOSTED__
#include <string.h>
#else
int memcmp(const void *, const void *, size_t);
void *memcpy(void *, const void *, size_t);
void *memset(void *, int, size_t);
#endif

#include "unicode_tables.h"

/* The numbers that a section begins with; H_ENTRIES counts the bytes of the pieces, or the merges. */
enum {
    H_MAGIC, H_KIND, H_FLAGS, H_MAX_LENGTH, H_VOCAB_SIZE, H_CLS, H_SEP, H_PAD, H_UNK,
    H_ADDED, H_ADDED_BYTES, H_SLOTS, H_ENTRIES, H_MAX_WORD, H_LONGEST, H_RESERVED, HEADER_WORDS
};
enum { CLEAN = 1, CHINESE = 2, STRIP = 4, LOWER = 8, PREFIX_SPACE = 16 }; /* flags of a tokenizer */
enum { A_ID, A_START, A_SIZE, A_FLAGS, ADDED_FIELDS };                    /* an added token */
enum { ADDED_LEFT = 1, ADDED_RIGHT = 2, ADDED_SECOND = 4 };               /* its flags: strips spaces; second pass */

#define MAGIC 0x4B544B4Du /* "MKTK", little-endian */
#define MAX_WORD 256 /* characters of a word that are kept */
#define MAX_PIECE 255
#define MAX_LENGTH (1u << 20)
#define NO_RANK UINT32_MAX
#define INDEX_MASK 0xFFFFFu
#define REPLACEMENT 0xFFFDu
#define HASH_START 0x811C9DC5u
#define HASH_CONTINUED 0x9E3779B9u

typedef struct {
    const mk_tokenizer *t;
    int32_t *ids;
    size_t capacity, count; /* count goes on beyond the capacity */
    uint32_t *work;
    size_t work_symbols; /* symbols that fit into the work area */
    int failed;
    /* The word that is being read (WordPiece). */
    uint32_t characters, size, run; /* run: where its last characters that NFD may reorder begin */
    uint8_t bytes[4 * MAX_WORD];
} reader;

/* ---- Characters ---- */

static uint32_t kind_of(uint32_t c)
{
    uint32_t middle = MK_MIDDLES[(uint32_t)MK_TOPS[c >> 11] << 4 | (c >> 7 & 15)];
    return MK_KINDS[MK_LEAVES[middle << 7 | (c & 127)]];
}

/* Read one character. Of invalid UTF-8 a maximal subpart is read as U+FFFD (Unicode 14, table 3-7). */
static uint32_t decode(const uint8_t **at, const uint8_t *end)
{
    const uint8_t *p = *at;
    uint32_t lead = *p++, c, low = 0x80, high = 0xBF;
    int more;
    *at = p;
    if (lead < 0x80)
        return lead;
    if (lead >= 0xC2 && lead <= 0xDF) {
        more = 1;
        c = lead & 0x1F;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
        more = 2;
        c = lead & 0x0F;
        low = lead == 0xE0 ? 0xA0 : low;
        high = lead == 0xED ? 0x9F : high;
    } else if (lead >= 0xF0 && lead <= 0xF4) {
        more = 3;
        c = lead & 0x07;
        low = lead == 0xF0 ? 0x90 : low;
        high = lead == 0xF4 ? 0x8F : high;
    } else {
        return REPLACEMENT;
    }
    for (; more > 0; more--, low = 0x80, high = 0xBF) {
        if (p == end || *p < low || *p > high)
            return REPLACEMENT;
        c = c << 6 | (*p++ & 0x3F);
        *at = p;
    }
    return c;
}

static uint32_t encode(uint32_t c, uint8_t bytes[4])
{
    uint32_t i, size = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    if (size == 1) {
        bytes[0] = (uint8_t)c;
        return 1;
    }
    for (i = size - 1; i > 0; i--, c >>= 6)
        bytes[i] = (uint8_t)(0x80 | (c & 0x3F));
    bytes[0] = (uint8_t)((0xF00u >> size & 0xFF) | c);
    return size;
}

/* What a table of runs makes of c: a character, or 0x110000 + the number of a sequence. */
static uint32_t mapped(const uint32_t *first, const int32_t *shift, int count, uint32_t c)
{
    int low = 0, high = count;
    while (high - low > 1) {
        int middle = low + (high - low) / 2;
        if (first[middle] >> 11 <= c)
            low = middle;
        else
            high = middle;
    }
    uint32_t gap = c - (first[low] >> 11), every_other = (uint32_t)shift[low] & 1;
    if (gap > (first[low] & 0x7FF) || (gap & every_other))
        return c;
    return c + (uint32_t)((shift[low] - (int32_t)every_other) / 2);
}

/* ---- Added tokens and ids ---- */

static void emit(reader *r, int32_t id)
{
    if (r->count < r->capacity)
        r->ids[r->count] = id;
    r->count++;
}

static int is_full(const reader *r)
{
    return r->count > r->capacity || r->failed;
}

static uint32_t pass_of(const uint32_t *token)
{
    return token[A_FLAGS] & ADDED_SECOND ? 1 : 0;
}

/* The longest added token of a pass that is spelt at p, or NULL. */
static const uint32_t *added_at(const mk_tokenizer *t, const uint8_t *p, const uint8_t *end, uint32_t pass)
{
    const uint32_t *best = NULL;
    if (!(t->added_starts[pass][*p >> 5] >> (*p & 31) & 1))
        return NULL;
    for (uint32_t i = 0; i < t->added_count; i++) {
        const uint32_t *token = t->added + i * ADDED_FIELDS;
        if (pass_of(token) != pass || token[A_SIZE] > (size_t)(end - p) || (best && token[A_SIZE] <= best[A_SIZE]))
            continue;
        if (!memcmp(p, t->added_bytes + token[A_START], token[A_SIZE]))
            best = token;
    }
    return best;
}

static const uint8_t *before_spaces(const uint8_t *from, const uint8_t *p)
{
    while (p > from) {
        const uint8_t *start = p - 1;
        while (start > from && p - start < 3 && (*start & 0xC0) == 0x80)
            start--;
        const uint8_t *after = start;
        if (!(kind_of(decode(&after, p)) & MK_SPACE) || after != p)
            break;
        p = start;
    }
    return p;
}

static const uint8_t *after_spaces(const uint8_t *p, const uint8_t *end)
{
    for (const uint8_t *next = p; next < end && kind_of(decode(&next, end)) & MK_SPACE;)
        p = next;
    return p;
}

/* ---- WordPiece ---- */

static uint32_t mixed(uint32_t hash)
{
    hash = (hash ^ hash >> 15) * 0x2C1B3C6Du;
    return hash ^ hash >> 13;
}

static uint32_t slot_of(const mk_tokenizer *t, uint32_t hash)
{
    return (uint32_t)((uint64_t)hash * t->slot_count >> 32);
}

static int32_t find_piece(const mk_tokenizer *t, uint32_t hash, const uint8_t *bytes, uint32_t size, uint32_t continued)
{
    hash = mixed(hash);
    uint32_t tag = (hash & 0x7FF) << 1 | continued, slot;
    for (uint32_t at = slot_of(t, hash); (slot = t->slots[at]) != 0; at = at + 1 < t->slot_count ? at + 1 : 0) {
        if (slot >> 20 != tag)
            continue;
        uint32_t id = (slot & INDEX_MASK) - 1, start = t->blocks[id >> 8] + t->offsets[id];
        if (t->blocks[(id + 1) >> 8] + t->offsets[id + 1] - start == size && !memcmp(t->pieces + start, bytes, size))
            return (int32_t)id;
    }
    return -1;
}

/* Cut the word greedily into the longest pieces; the whole word is unknown when a part of it has none. */
static void emit_pieces(reader *r)
{
    const mk_tokenizer *t = r->t;
    size_t count = r->count;
    for (uint32_t start = 0, stop; start < r->size; start += stop) {
        uint32_t hashes[MAX_PIECE + 1], hash = start ? HASH_CONTINUED : HASH_START;
        uint32_t longest = r->size - start < t->longest ? r->size - start : t->longest;
        int32_t id = -1;
        for (uint32_t i = 0; i < longest; i++)
            hashes[i] = hash = (hash ^ r->bytes[start + i]) * 0x01000193u;
        for (stop = longest; stop > 0; stop--)
            if ((id = find_piece(t, hashes[stop - 1], r->bytes + start, stop, start > 0)) >= 0)
                break;
        if (id < 0) {
            r->count = count;
            emit(r, t->unk_id);
            return;
        }
        emit(r, id);
    }
}

static void end_word(reader *r)
{
    if (r->characters > r->t->max_word)
        emit(r, r->t->unk_id);
    else if (r->characters)
        emit_pieces(r);
    r->characters = r->size = r->run = 0;
}

/* Add a character to the word. One with a rank moves before those of the run that have a higher rank. */
static void put(reader *r, uint32_t c, uint32_t rank)
{
    uint8_t bytes[4];
    uint32_t size, at = r->size;
    if (r->characters > r->t->max_word || ++r->characters > r->t->max_word)
        return;
    size = encode(c, bytes);
    while (rank && at > r->run) {
        uint32_t start = at - 1;
        while ((r->bytes[start] & 0xC0) == 0x80)
            start--;
        const uint8_t *p = r->bytes + start;
        if (kind_of(decode(&p, r->bytes + at)) >> MK_RANK_SHIFT <= rank)
            break;
        at = start;
    }
    for (uint32_t i = r->size; i > at; i--)
        r->bytes[i - 1 + size] = r->bytes[i - 1];
    memcpy(r->bytes + at, bytes, size);
    r->size += size;
    if (!rank)
        r->run = r->size;
}

static void put_or_split(reader *r, uint32_t c)
{
    uint32_t kind = kind_of(c);
    if (kind & MK_SPACE) {
        end_word(r);
    } else if (kind & MK_PUNCTUATION) {
        end_word(r);
        put(r, c, 0);
        end_word(r);
    } else {
        put(r, c, r->t->flags & STRIP ? kind >> MK_RANK_SHIFT : 0);
    }
}

static void put_sequence(reader *r, uint32_t c, void (*put_one)(reader *, uint32_t))
{
    if (c < 0x110000) {
        put_one(r, c);
        return;
    }
    const uint32_t *sequence = MK_SEQUENCES + 3 * (c - 0x110000);
    for (int i = 0; i < 3 && sequence[i]; i++)
        put_one(r, sequence[i]);
}

static void put_lower(reader *r, uint32_t c)
{
    if (r->t->flags & LOWER && kind_of(c) & MK_LOWER)
        c = mapped(MK_LOWER_FIRST, MK_LOWER_SHIFT, (int)(sizeof MK_LOWER_FIRST / sizeof *MK_LOWER_FIRST), c);
    put_sequence(r, c, put_or_split);
}

/* NFD without its nonspacing marks. Hangul syllables are taken apart by arithmetic (Unicode 14, section 3.12). */
static void put_stripped(reader *r, uint32_t c, uint32_t kind)
{
    uint32_t syllable = c - 0xAC00;
    if (syllable < 11172) {
        put_lower(r, 0x1100 + syllable / 588);
        put_lower(r, 0x1161 + syllable % 588 / 28);
        if (syllable % 28)
            put_lower(r, 0x11A7 + syllable % 28);
    } else if (kind & MK_MARK) {
        if (kind & MK_BARRIER)
            r->run = r->size;
    } else {
        if (kind & MK_STRIP)
            c = mapped(MK_STRIP_FIRST, MK_STRIP_SHIFT, (int)(sizeof MK_STRIP_FIRST / sizeof *MK_STRIP_FIRST), c);
        put_sequence(r, c, put_lower);
    }
}

static void put_normalized(reader *r, uint32_t c)
{
    uint32_t flags = r->t->flags, kind = kind_of(c);
    if (flags & CLEAN && kind & MK_DROP)
        return;
    int apart = flags & CHINESE && kind & MK_CJK;
    if (apart)
        end_word(r);
    if (flags & STRIP)
        put_stripped(r, c, kind);
    else
        put_lower(r, c);
    if (apart)
        end_word(r);
}

static void read_words(reader *r, const uint8_t *p, const uint8_t *end)
{
    while (p < end && !is_full(r)) {
        uint32_t c = *p, kind = c < 0x80 ? MK_KINDS[MK_LEAVES[c]] : MK_DROP;
        if (kind & (MK_DROP | MK_SPACE | MK_PUNCTUATION) || r->characters >= r->t->max_word) {
            put_normalized(r, decode(&p, end));
            continue;
        }
        /* ASCII letters and digits: the common case. */
        p++;
        r->bytes[r->size++] = (uint8_t)(kind & MK_LOWER && r->t->flags & LOWER ? c + 32 : c);
        r->run = r->size;
        r->characters++;
    }
    end_word(r);
}

/* ---- Byte-level BPE ---- */

/* The rank of a pair of ids and the id that it becomes, or NO_RANK. */
static uint32_t rank_of(const mk_tokenizer *t, uint32_t left, uint32_t right)
{
    uint32_t hash = mixed(((HASH_START ^ left) * 0x01000193u ^ right) * 0x85EBCA6Bu), slot;
    uint32_t low = left | right << 20, high = right >> 12;
    for (uint32_t at = slot_of(t, hash); (slot = t->slots[at]) != 0; at = at + 1 < t->slot_count ? at + 1 : 0) {
        uint32_t rank = (slot & INDEX_MASK) - 1;
        const uint32_t *merge = t->merges + 2 * (size_t)rank;
        if (slot >> 20 == (hash & 0xFFF) && merge[0] == low && (merge[1] & 0xFF) == high)
            return rank;
    }
    return NO_RANK;
}

/* Merge n symbols as far as they go: always the pair of the lowest rank, from the left. Returns how many are left.
   A pass merges all places of that rank, unless a new pair has a lower one and must come before the rest. */
static size_t merge(const mk_tokenizer *t, uint32_t *symbols, uint32_t *ranks, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ranks[i] = i + 1 < n ? rank_of(t, symbols[i], symbols[i + 1]) : NO_RANK;
    for (;;) {
        uint32_t best = NO_RANK;
        size_t from = 0, to = 0;
        int overtaken = 0;
        for (size_t i = 0; i < n; i++)
            best = ranks[i] < best ? ranks[i] : best;
        if (best == NO_RANK)
            return n;
        uint32_t merged = t->merges[2 * (size_t)best + 1] >> 8;
        for (; from < n; to++) {
            if (ranks[from] != best || overtaken) {
                symbols[to] = symbols[from];
                ranks[to] = ranks[from++];
                continue;
            }
            from += 2;
            symbols[to] = merged;
            ranks[to] = from < n ? rank_of(t, merged, symbols[from]) : NO_RANK;
            overtaken = ranks[to] < best;
            if (to > 0) {
                ranks[to - 1] = rank_of(t, symbols[to - 1], merged);
                overtaken |= ranks[to - 1] < best;
            }
        }
        n = to;
    }
}

/* Turn `space` and the text from p into symbols, merge them, and emit their ids. */
static void emit_merged(reader *r, int space, const uint8_t *p, const uint8_t *end)
{
    uint32_t *symbols = r->work, *ranks = r->work + r->work_symbols;
    size_t n = 0;
    while (space || p < end) {
        uint8_t bytes[4];
        uint32_t size = encode(space ? ' ' : decode(&p, end), bytes);
        space = 0;
        for (uint32_t i = 0; i < size; i++) {
            int32_t id = r->t->byte_ids[bytes[i]];
            if (id < 0)
                continue;
            if (n == r->work_symbols) {
                r->failed = 1;
                return;
            }
            symbols[n++] = (uint32_t)id;
        }
    }
    n = merge(r->t, symbols, ranks, n);
    for (size_t i = 0; i < n; i++)
        emit(r, (int32_t)symbols[i]);
}

/* The length of 's, 't, 'm, 'd, 're, 've, 'll at p, or 0. */
static int contraction(const uint8_t *p, const uint8_t *end)
{
    if (*p != '\'' || end - p < 2)
        return 0;
    if (p[1] == 's' || p[1] == 't' || p[1] == 'm' || p[1] == 'd')
        return 2;
    if (end - p < 3)
        return 0;
    return (p[1] == 'r' && p[2] == 'e') || (p[1] == 'v' && p[2] == 'e') || (p[1] == 'l' && p[2] == 'l') ? 3 : 0;
}

/* The end of the word that starts at p, as GPT-2's pattern cuts text; `space` is a space before p, outside the text.
   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static const uint8_t *word_end(int space, const uint8_t *p, const uint8_t *end)
{
    const uint32_t classes = MK_SPACE | MK_LETTER | MK_NUMBER;
    const uint8_t *start = p, *last, *next;
    uint32_t class, spaces = space != 0;
    if (!space && contraction(p, end))
        return p + contraction(p, end);
    if (!space && *p == ' ')
        p++;
    if (p < end) {
        next = p;
        class = kind_of(decode(&next, end)) & classes;
        if (class != MK_SPACE) {
            for (p = next; next < end && (kind_of(decode(&next, end)) & classes) == class;)
                p = next;
            return p;
        }
    }
    /* White space: the last of several before a word is left to that word. */
    for (p = last = next = start; next < end && kind_of(decode(&next, end)) & MK_SPACE; spaces++) {
        last = p;
        p = next;
    }
    return p == end || spaces == 1 ? p : last;
}

static void read_bytes(reader *r, const uint8_t *p, const uint8_t *end)
{
    int space = r->t->flags & PREFIX_SPACE && p < end && *p != ' ';
    while (p < end && !is_full(r)) {
        const uint8_t *stop = word_end(space, p, end);
        emit_merged(r, space, p, stop);
        space = 0;
        p = stop;
    }
}

/* ---- Reading a text ---- */

/* Emit the added tokens of a pass, and read what is between them. */
static void read_text(reader *r, const uint8_t *from, const uint8_t *end, uint32_t pass)
{
    while (pass < 2 && !memcmp(r->t->added_starts[pass], (const uint32_t[8]){0}, sizeof r->t->added_starts[pass]))
        pass++;
    if (pass == 2) {
        if (r->t->kind == MK_WORDPIECE)
            read_words(r, from, end);
        else
            read_bytes(r, from, end);
        return;
    }
    for (const uint8_t *p = from; p < end && !is_full(r);) {
        const uint32_t *token = added_at(r->t, p, end, pass);
        if (!token) {
            p++;
            continue;
        }
        const uint8_t *start = token[A_FLAGS] & ADDED_LEFT ? before_spaces(from, p) : p;
        p += token[A_SIZE];
        if (from < start)
            read_text(r, from, start, pass + 1);
        emit(r, (int32_t)token[A_ID]);
        from = token[A_FLAGS] & ADDED_RIGHT ? after_spaces(p, end) : p;
    }
    if (from < end && !is_full(r))
        read_text(r, from, end, pass + 1);
}

/* Where a text ends after `most` characters. */
static const uint8_t *cut_at(const uint8_t *p, const uint8_t *end, size_t most)
{
    if ((size_t)(end - p) <= most)
        return end;
    for (; p < end && most > 0; most--)
        decode(&p, end);
    return p;
}

size_t mk_tokenizer_work(const mk_tokenizer *t, size_t text_size)
{
    size_t most = 4 * (size_t)t->max_characters;
    if (t->kind == MK_WORDPIECE)
        return 0;
    /* One invalid byte is read as the three of U+FFFD. */
    return 2 * sizeof(uint32_t) * ((text_size < most / 3 ? 3 * text_size : most) + 1);
}

int mk_tokenize(const mk_tokenizer *t, const char *utf8, size_t size, int32_t *ids, int capacity, int *truncated,
                void *work, size_t work_size)
{
    reader r;
    const uint8_t *text = (const uint8_t *)utf8, *end = cut_at(text, text + size, t->max_characters);
    r.t = t;
    r.ids = ids;
    r.capacity = capacity > 0 ? (size_t)capacity : 0;
    r.work = work;
    r.work_symbols = work_size / (2 * sizeof(uint32_t));
    r.count = 0;
    r.characters = r.size = r.run = 0;
    r.failed = 0;
    read_text(&r, text, end, 0);
    *truncated = r.count > r.capacity || end != text + size;
    if (r.failed)
        return MK_TOKENIZER_WORK;
    return (int)(r.count < r.capacity ? r.count : r.capacity);
}

/* ---- Opening a section ---- */

static int is_id(const mk_tokenizer *t, uint32_t id)
{
    return id < t->vocab_size || id == UINT32_MAX;
}

/* Take `count` items of `width` bytes, padded to 4; NULL when the section is too short. */
static const void *take(const uint8_t **at, size_t *left, uint32_t count, uint32_t width)
{
    const void *taken = *at;
    uint64_t bytes = ((uint64_t)count * width + 3) / 4 * 4;
    if (bytes > *left)
        return NULL;
    *at += bytes;
    *left -= (size_t)bytes;
    return taken;
}

static int open_added(mk_tokenizer *t, uint32_t bytes)
{
    memset(t->added_starts, 0, sizeof t->added_starts);
    for (uint32_t i = 0; i < t->added_count; i++) {
        const uint32_t *token = t->added + i * ADDED_FIELDS;
        uint32_t start = token[A_START];
        if (token[A_ID] >= t->vocab_size || token[A_SIZE] == 0 || start > bytes || token[A_SIZE] > bytes - start)
            return 0;
        uint32_t first = t->added_bytes[start];
        t->added_starts[pass_of(token)][first >> 5] |= 1u << (first & 31);
    }
    return 1;
}

/* Searches end at an empty slot, so there must be one. */
static int open_slots(const mk_tokenizer *t, uint32_t indices)
{
    uint32_t empty = 0;
    for (uint32_t i = 0; i < t->slot_count; i++) {
        if ((t->slots[i] & INDEX_MASK) > indices || (t->slots[i] && !(t->slots[i] & INDEX_MASK)))
            return 0;
        empty += t->slots[i] == 0;
    }
    return empty > 0;
}

static int open_pieces(const mk_tokenizer *t, uint32_t bytes)
{
    for (uint32_t i = 0, stop = 0; i <= t->vocab_size; i++) {
        uint64_t start = (uint64_t)t->blocks[i >> 8] + t->offsets[i];
        if (start < stop || start > bytes)
            return 0;
        stop = (uint32_t)start;
    }
    return 1;
}

static int open_merges(const mk_tokenizer *t, uint32_t merges)
{
    for (uint32_t i = 0; i < 256; i++)
        if (!is_id(t, (uint32_t)t->byte_ids[i]))
            return 0;
    for (uint32_t i = 0; i < merges; i++)
        if (t->merges[2 * (size_t)i + 1] >> 8 >= t->vocab_size)
            return 0;
    return 1;
}

int mk_tokenizer_open(mk_tokenizer *out, const uint8_t *blob, size_t size)
{
    mk_tokenizer t;
    const uint32_t *head = (const uint32_t *)(const void *)blob;
    size_t left = size;
    memset(&t, 0, sizeof t);
    if (((uintptr_t)blob & 3) || !take(&blob, &left, HEADER_WORDS, 4) || head[H_MAGIC] != MAGIC)
        return MK_TOKENIZER_MALFORMED;
    t.kind = head[H_KIND];
    t.flags = head[H_FLAGS];
    t.vocab_size = head[H_VOCAB_SIZE];
    t.cls_id = (int32_t)head[H_CLS];
    t.sep_id = (int32_t)head[H_SEP];
    t.pad_id = (int32_t)head[H_PAD];
    t.unk_id = (int32_t)head[H_UNK];
    t.added_count = head[H_ADDED];
    t.slot_count = head[H_SLOTS];
    t.max_word = head[H_MAX_WORD];
    t.longest = head[H_LONGEST];
    if (t.kind > MK_BYTE_BPE || head[H_MAX_LENGTH] > MAX_LENGTH || t.vocab_size >= INDEX_MASK ||
        t.max_word > MAX_WORD || t.longest > MAX_PIECE || (t.kind == MK_WORDPIECE && t.unk_id < 0))
        return MK_TOKENIZER_MALFORMED;
    for (int i = H_CLS; i <= H_UNK; i++)
        if (!is_id(&t, head[i]))
            return MK_TOKENIZER_MALFORMED;
    t.max_characters = 40 * (head[H_MAX_LENGTH] + 16);
    t.added = take(&blob, &left, t.added_count, 4 * ADDED_FIELDS);
    t.added_bytes = t.added ? take(&blob, &left, head[H_ADDED_BYTES], 1) : NULL;
    t.slots = t.added_bytes ? take(&blob, &left, t.slot_count, 4) : NULL;
    if (!t.slots || !open_added(&t, head[H_ADDED_BYTES]) ||
        !open_slots(&t, t.kind == MK_WORDPIECE ? t.vocab_size : head[H_ENTRIES]))
        return MK_TOKENIZER_MALFORMED;
    if (t.kind == MK_WORDPIECE) {
        t.blocks = take(&blob, &left, (t.vocab_size >> 8) + 1, 4);
        t.offsets = t.blocks ? take(&blob, &left, t.vocab_size + 1, 2) : NULL;
        t.pieces = t.offsets ? take(&blob, &left, head[H_ENTRIES], 1) : NULL;
        if (!t.pieces || !open_pieces(&t, head[H_ENTRIES]))
            return MK_TOKENIZER_MALFORMED;
    } else {
        t.byte_ids = take(&blob, &left, 256, 4);
        t.merges = t.byte_ids ? take(&blob, &left, head[H_ENTRIES], 8) : NULL;
        if (!t.merges || !open_merges(&t, head[H_ENTRIES]))
            return MK_TOKENIZER_MALFORMED;
    }
    *out = t;
    return 0;
}
