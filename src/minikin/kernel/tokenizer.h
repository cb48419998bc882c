/* From UTF-8 text to token ids: WordPiece with BERT's normalisation, and byte-level BPE.
   Reads the section that package/tokenizer_section.py writes; allocates nothing and keeps no state. */
#ifndef MK_TOKENIZER_H
#define MK_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

enum { MK_WORDPIECE = 0, MK_BYTE_BPE = 1 };

/* What mk_tokenizer_open and mk_tokenize return when they can't go on. */
enum { MK_TOKENIZER_MALFORMED = -1, MK_TOKENIZER_WORK = -2 };

/* Views into a section of a model file; the section must outlive them. */
typedef struct {
    uint32_t kind, flags;
    uint32_t vocab_size;     /* every id is below it */
    uint32_t max_characters; /* of a text; what comes after them is not read */
    int32_t cls_id, sep_id, pad_id, unk_id; /* -1 when absent */

    /* Tokens that are matched as they are spelt, before anything else: id, first byte, length, flags of each. */
    const uint32_t *added;
    const uint8_t *added_bytes;
    uint32_t added_count;
    uint32_t added_starts[2][8]; /* bit b: byte b starts a token of the first pass, of the second pass */

    /* A hash table: each slot is empty (0), or 12 bits of tag above 20 bits of index + 1. */
    const uint32_t *slots;
    uint32_t slot_count;

    /* WordPiece: piece i is pieces[blocks[i >> 8] + offsets[i] ..., up to the start of the next. */
    uint32_t max_word; /* in characters; longer words are unknown */
    uint32_t longest;  /* piece, in bytes */
    const uint32_t *blocks;
    const uint16_t *offsets;
    const uint8_t *pieces;

    /* BPE: the id of each byte (-1: left out), and merges by rank: left, right and new id of 20 bits each. */
    const int32_t *byte_ids;
    const uint32_t *merges;
} mk_tokenizer;

/* Read a section of `size` bytes, aligned to 4. Returns 0, or MK_TOKENIZER_MALFORMED: any bytes may be given. */
int mk_tokenizer_open(mk_tokenizer *out, const uint8_t *blob, size_t size);

/* The bytes of work area, aligned to 4, with which mk_tokenize can read any text of `text_size` bytes; 0 for
   WordPiece. SIZE_MAX stands for all texts: BPE then asks for 8 bytes per byte that it reads. */
size_t mk_tokenizer_work(const mk_tokenizer *t, size_t text_size);

/* Cut UTF-8 text into at most `capacity` ids, without those that frame a text ([CLS], [SEP]). Invalid UTF-8 is read
   as U+FFFD, one for each of its maximal subparts. Returns the number of ids; *truncated is 1 when the text had more
   or was longer than max_characters. Returns MK_TOKENIZER_WORK when a word of BPE does not fit into the work area. */
int mk_tokenize(const mk_tokenizer *t, const char *utf8, size_t size, int32_t *ids, int capacity, int *truncated,
                void *work, size_t work_size);

#endif
