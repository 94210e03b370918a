/* A load generator for benchmarks on loopback: one thread, epoll, keep-alive connections.
 *
 *   loadgen MODE PORT REQUEST_FILE CONNECTIONS WARMUP_S SECONDS RATE STAGGER_S
 *
 * MODE closed: each connection sends its next request when the answer is there. MODE paced: RATE
 * requests a second, and latency counts from the instant at which a request was due. MODE stream:
 * each connection reads one event stream after another; the first begin spread over STAGGER_S.
 *
 * REQUEST_FILE is sent byte for byte, but for "@@@@@@@@", which becomes a number that changes with
 * each request. Prints "measuring" and "measured" around the window, then one line of JSON with
 * times in microseconds. Ends at the latest two seconds after the window.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { HEAD = 8192, MAX_CONNECTIONS = 4096, USERS = 50000 };
enum state { HEADERS, LENGTH_BODY, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER };

typedef struct {
    int fd, busy, used, status, line_size, newline, chunked;
    enum state state;
    long left;
    int64_t intended, last; /* due instant of the request; instant of the last event */
    int events;
    char head[HEAD];
} connection;

typedef struct { uint32_t *values; size_t used, room; } samples;

static connection all[MAX_CONNECTIONS];
static int idle[MAX_CONNECTIONS], idle_count;
static char request[65536];
static int request_size, port, poll_fd, measuring;
static char *placeholder;
static uint64_t sent_count, errors, completed, events_seen;
static samples latency, first_event, gaps;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void note(samples *s, int64_t ns) {
    if (!measuring) return;
    if (s->used == s->room) {
        s->room = s->room ? s->room * 2 : 65536;
        s->values = realloc(s->values, s->room * sizeof *s->values);
        if (!s->values) exit(1);
    }
    int64_t us10 = ns / 100; /* tenths of a microsecond */
    s->values[s->used++] = us10 > UINT32_MAX ? UINT32_MAX : (uint32_t)us10;
}

static int order(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void print_samples(const char *name, samples *s) {
    double sum = 0;
    if (s->used) qsort(s->values, s->used, sizeof *s->values, order);
    for (size_t i = 0; i < s->used; i++) sum += s->values[i];
    printf(", \"%s\": {\"count\": %zu", name, s->used);
    if (s->used) {
        size_t top = s->used - 1;
        printf(", \"mean\": %.1f, \"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f, \"max\": %.1f",
               sum / s->used / 10, s->values[(size_t)(top * 0.5)] / 10.0,
               s->values[(size_t)(top * 0.9)] / 10.0, s->values[(size_t)(top * 0.99)] / 10.0,
               s->values[top] / 10.0);
    }
    printf("}");
}

static int open_connection(connection *c) {
    int one = 1;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0) return -1;
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to)) {
        close(c->fd);
        c->fd = -1;
        return -1;
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event want = {.events = EPOLLIN, .data.ptr = c};
    return epoll_ctl(poll_fd, EPOLL_CTL_ADD, c->fd, &want);
}

static void fail(connection *c) { /* one error; the connection is opened anew when next used */
    if (c->busy && measuring) errors++;
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
}

static int start(connection *c, int64_t intended) { /* send one request; -1 when that failed */
    if (placeholder) {
        char digits[16];
        snprintf(digits, sizeof digits, "%08u", (unsigned)(sent_count * 7919 % USERS));
        memcpy(placeholder, digits, 8);
    }
    sent_count++;
    c->busy = 1;
    c->used = c->status = c->line_size = c->newline = c->chunked = c->events = 0;
    c->state = HEADERS;
    c->left = 0;
    c->intended = c->last = intended;
    if (c->fd < 0 && open_connection(c)) { fail(c); return -1; }
    if (send(c->fd, request, request_size, MSG_NOSIGNAL) != request_size) { fail(c); return -1; }
    return 0;
}

static void count_events(connection *c, const char *data, long size, int64_t now) {
    for (const char *at = data; (at = memchr(at, '\n', data + size - at)); at++) {
        /* an event ends with an empty line */
        int after_newline = at > data ? at[-1] == '\n' : c->newline;
        if (!after_newline) continue;
        note(c->events ? &gaps : &first_event, now - c->last);
        c->events++;
        c->last = now;
        if (measuring) events_seen++;
    }
    if (size) c->newline = data[size - 1] == '\n';
}

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

static int received(connection *c, int stream) { /* 1: the connection is free again */
    static char data[262144];
    ssize_t got = recv(c->fd, data, sizeof data, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    int64_t now = now_ns();
    if (got <= 0 || !c->busy) {
        fail(c);
    } else {
        int whole = feed(c, data, got, now, stream);
        if (!whole) return 0;
        if (whole < 0 || c->status != 200 || (stream && c->events < 2)) {
            fail(c);
        } else {
            note(&latency, now - c->intended);
            if (measuring) completed++;
        }
    }
    int was_busy = c->busy;
    c->busy = 0;
    return was_busy;
}

static int load_request(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) return -1;
    request_size = (int)fread(request, 1, sizeof request - 1, file);
    fclose(file);
    placeholder = memmem(request, request_size, "@@@@@@@@", 8);
    return request_size > 0 ? 0 : -1;
}

int main(int count, char **values) {
    if (count != 9 || load_request(values[3])) return 2;
    int stream = !strcmp(values[1], "stream"), paced = !strcmp(values[1], "paced");
    port = atoi(values[2]);
    int wanted = atoi(values[4]);
    double rate = atof(values[7]);
    if (wanted < 1 || wanted > MAX_CONNECTIONS || (paced && rate <= 0)) return 2;
    poll_fd = epoll_create1(0);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event events[256], want = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, timer, &want);
    for (int i = 0; i < wanted; i++) {
        all[i].fd = -1;
        if (open_connection(&all[i])) return 1;
    }
    int64_t began = now_ns(), from = began + (int64_t)(atof(values[5]) * 1e9);
    int64_t until = from + (int64_t)(atof(values[6]) * 1e9), ended = 0, armed = 0;
    int64_t stagger = (int64_t)(atof(values[8]) * 1e9);
    uint64_t due = 0; /* requests due so far (paced), or first requests sent (other modes) */
    for (int i = wanted - 1; i >= 0; i--) idle[idle_count++] = i;
    for (int64_t now = began; now < until + 2000000000LL; now = now_ns()) {
        if (!measuring && !ended && now >= from) {
            printf("measuring\n");
            fflush(stdout);
            measuring = 1;
            from = now;
        }
        if (measuring && now >= until) {
            ended = now;
            measuring = 0;
            printf("measured\n");
            fflush(stdout);
            break;
        }
        int64_t next = measuring ? until : from;
        if (paced) {
            int64_t at;
            while ((at = began + (int64_t)(due * 1e9 / rate)) <= now && idle_count) {
                connection *c = &all[idle[--idle_count]];
                due++;
                if (start(c, at)) { c->busy = 0; idle[idle_count++] = (int)(c - all); break; }
            }
            if (at > now && at < next) next = at;
        } else {
            int64_t at = began;
            while (idle_count && (due >= (uint64_t)wanted ||
                                  (at = began + stagger * (int64_t)due / wanted) <= now)) {
                connection *c = &all[idle[--idle_count]];
                if (due < (uint64_t)wanted) due++;
                if (start(c, now_ns())) { c->busy = 0; idle[idle_count++] = (int)(c - all); break; }
            }
            if (idle_count && at > now && at < next) next = at;
        }
        if (next != armed) {
            armed = next;
            struct itimerspec when = {.it_value = {next / 1000000000, next % 1000000000}};
            timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
        }
        int ready = epoll_wait(poll_fd, events, 256, 100);
        for (int i = 0; i < ready; i++) {
            connection *c = events[i].data.ptr;
            if (!c) {
                uint64_t fired;
                if (read(timer, &fired, sizeof fired) > 0) armed = 0;
            } else if (c->fd >= 0 && received(c, stream)) {
                idle[idle_count++] = (int)(c - all);
            }
        }
    }
    if (!ended) ended = now_ns();
    printf("{\"seconds\": %.6f, \"sent\": %lu, \"requests\": %lu, \"errors\": %lu, \"events\": %lu",
           (ended - from) / 1e9, sent_count, completed, errors, events_seen);
    print_samples("latency", &latency);
    print_samples("first_event", &first_event);
    print_samples("gap", &gaps);
    printf("}\n");
    return 0;
}
