/* Reading an HTTP answer as it comes, piece by piece; part of loadgen.c. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { HEAD = 8192 };
enum state { HEADERS, LENGTH_BODY, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER };

typedef struct {
    int fd, busy, used, status, line_size, newline, chunked;
    enum state state;
    long left;
    int64_t intended, last; /* due instant of the request; instant of the last event */
    int events;
    char head[HEAD];
} connection;

/* Called with each piece of an event stream's body. */
static void count_events(connection *c, const char *data, long size, int64_t now);

static int read_head(connection *c) { /* bytes of the head; 0 when more is needed; -1 when wrong */
    char *end = memmem(c->head, c->used, "\r\n\r\n", 4);
    if (!end) return c->used == HEAD ? -1 : 0;
    if (c->used < 12 || strncmp(c->head, "HTTP/1.", 7)) return -1;
    c->status = atoi(c->head + 9);
    long length = -1;
    for (char *line = memmem(c->head, end - c->head, "\r\n", 2); line && line < end;
         line = memmem(line + 2, end + 2 - (line + 2), "\r\n", 2)) {
        if (!strncasecmp(line + 2, "content-length:", 15)) length = atol(line + 17);
        if (!strncasecmp(line + 2, "transfer-encoding:", 18)) c->chunked = 1;
    }
    if (!c->chunked && length < 0) return -1;
    c->left = c->chunked ? 0 : length;
    c->state = c->chunked ? CHUNK_SIZE : LENGTH_BODY;
    return (int)(end + 4 - c->head);
}

/* Read what has come. 1: the answer is whole, 0: not yet, -1: it is broken. */
static int feed(connection *c, const char *data, long size, int64_t now, int stream) {
    if (c->state == HEADERS) {
        long had = c->used, room = HEAD - had, copied = size < room ? size : room;
        memcpy(c->head + had, data, copied);
        c->used += (int)copied;
        int head = read_head(c);
        if (head <= 0) return head;
        data += head - had;
        size -= head - had;
    }
    while (size > 0 || (c->state == LENGTH_BODY && c->left == 0)) {
        long part = size < c->left ? size : c->left;
        switch (c->state) {
        case LENGTH_BODY:
        case CHUNK_DATA:
            if (stream) count_events(c, data, part, now);
            data += part;
            size -= part;
            c->left -= part;
            if (c->left) return 0;
            if (c->state == LENGTH_BODY) return size ? -1 : 1;
            c->state = CHUNK_END;
            c->left = 2;
            break;
        case CHUNK_END:
            data += part;
            size -= part;
            c->left -= part;
            if (!c->left) c->state = CHUNK_SIZE;
            break;
        case CHUNK_SIZE:
        case TRAILER: {
            char byte = *data++;
            size--;
            if (byte != '\n') {
                int digit = byte >= '0' && byte <= '9' ? byte - '0'
                          : (byte | 32) >= 'a' && (byte | 32) <= 'f' ? (byte | 32) - 'a' + 10 : -1;
                if (byte == '\r') break;
                c->line_size++;
                if (c->state == CHUNK_SIZE) {
                    if (digit < 0 || c->line_size > 8) return -1;
                    c->left = c->left * 16 + digit;
                }
                break;
            }
            int empty = !c->line_size;
            c->line_size = 0;
            if (c->state == TRAILER) {
                if (empty) return size ? -1 : 1;
            } else if (empty) {
                return -1;
            } else {
                c->state = c->left ? CHUNK_DATA : TRAILER;
            }
            break;
        }
        default:
            return -1;
        }
    }
    return 0;
}
