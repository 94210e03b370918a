/* A load generator for benchmarks on loopback: one thread, epoll, keep-alive connections.
 *
 *   loadgen MODE PORT REQUEST_FILE CONNECTIONS WARMUP_S SECONDS RATE STAGGER_S
 *
 * MODE closed: each connection sends its next request when the answer is there. MODE paced: RATE
 * requests a second, and latency counts from the instant at which a request was due. MODE stream:
 * each connection reads one event stream after another; the first begin spread over STAGGER_S.
 * MODE stalled: each connection begins one event stream, reads its first event and then nothing
 * more, with the receive buffer and the segments of a small device. The window begins once all
 * stand so, or after WARMUP_S; "requests" counts them, and they stand until standard input ends.
 *
 * REQUEST_FILE is sent byte for byte, but for "@@@@@@@@", which becomes a number that changes with
 * each request. Prints "measuring" and "measured" around the window, then one line of JSON with
 * times in microseconds. Ends at the latest two seconds after the window (stalled: twelve).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "answer.h"

enum { MAX_CONNECTIONS = 4096, USERS = 50000 };

typedef struct { uint32_t *values; size_t used, room; } samples;

static connection all[MAX_CONNECTIONS];
static int idle[MAX_CONNECTIONS], idle_count;
static char request[65536];
static int request_size, port, poll_fd, measuring, stalled, standing;
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
    if (stalled) { /* loopback's segments of 64 KiB would let the kernel buffer megabytes */
        int buffer = 4096, segment = 1448;
        setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
        setsockopt(c->fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment);
    }
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

static void stall(connection *c) { /* read to the first event, and no byte more than is needed */
    char data[64];
    while (c->fd >= 0 && !c->events) {
        ssize_t got = recv(c->fd, data, sizeof data, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
        int state = got > 0 ? feed(c, data, got, now_ns(), 1) : -1;
        if (state || (c->state != HEADERS && c->status != 200)) fail(c);
    }
    if (c->fd >= 0 && !epoll_ctl(poll_fd, EPOLL_CTL_DEL, c->fd, NULL)) standing++;
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
    stalled = !strcmp(values[1], "stalled");
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
        if (!measuring && !ended && (now >= from || standing == wanted)) {
            printf("measuring\n");
            fflush(stdout);
            measuring = 1;
            until += now - from;
            from = now;
            completed = standing;
            if (stalled) errors = wanted - standing;
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
            } else if (stalled) {
                stall(c);
            } else if (c->fd >= 0 && received(c, stream)) {
                idle[idle_count++] = (int)(c - all);
            }
        }
    }
    if (!ended) ended = now_ns();
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    if (stalled) poll(&input, 1, 10000);
    printf("{\"seconds\": %.6f, \"sent\": %lu, \"requests\": %lu, \"errors\": %lu, \"events\": %lu",
           (ended - from) / 1e9, sent_count, completed, errors, events_seen);
    print_samples("latency", &latency);
    print_samples("first_event", &first_event);
    print_samples("gap", &gaps);
    printf("}\n");
    return 0;
}
