/* A fast OpenAI-like upstream on loopback for benchmarks: one thread, epoll, keep-alive.
 *
 *   upstream CHUNKS INTERVAL_MS LIFETIME_S
 *
 * Listens on a free port of 127.0.0.1 and prints it. A POST is answered by a chat completion of
 * about 1 KB, whose text differs for the model "tuned", or, when its body holds "stream":true, by
 * CHUNKS server-sent events of about 180 bytes, the first at once and the others INTERVAL_MS apart,
 * and [DONE]. A stream whose request says [[flood]] comes as fast as it is read instead, about
 * 4 MiB of it. A GET is answered by a list of models. Ends by itself after LIFETIME_S seconds.
 * Bodies need a Content-Length.
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

/* A flood's socket buffer is small, so that what is not read waits in the subject or here. */
enum { INPUT = 65536, MAX_FD = 8192, FLOOD_EVENTS = 64, FLOOD_BLOCKS = 320, FLOOD_BUFFER = 32768 };

typedef struct connection {
    int fd, used, queued, left;
    int blocks, at; /* of a flood: blocks to send, and bytes of the present one that are sent */
    int64_t due;
    struct connection *previous, *next; /* in the queue of streams, by due time */
    char input[INPUT];
} connection;

static connection *connections[MAX_FD];
static connection *first, *last;
static int chunks, poller;
static int64_t interval;
static char answer[4096], tuned[4096], models[512], event[512], head[512];
static char block[FLOOD_EVENTS * 512];
static int answer_size, tuned_size, models_size, event_size, head_size, block_size;
static const char DONE[] = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void unqueue(connection *c) {
    if (!c->queued) return;
    if (c->previous) c->previous->next = c->next; else first = c->next;
    if (c->next) c->next->previous = c->previous; else last = c->previous;
    c->previous = c->next = NULL;
    c->queued = 0;
}

static void enqueue(connection *c) { /* due times only grow, so the queue stays sorted */
    c->previous = last;
    c->next = NULL;
    if (last) last->next = c; else first = c;
    last = c;
    c->queued = 1;
}

static void drop(connection *c) {
    unqueue(c);
    connections[c->fd] = NULL;
    close(c->fd);
    free(c);
}

static int put(connection *c, const char *data, int size) { /* short writes: the reader is too slow */
    ssize_t sent = send(c->fd, data, size, MSG_NOSIGNAL);
    return sent == size ? 0 : -1;
}

static int prepare_answer(char *to, size_t room, const char *model, const char *sentence) {
    char body[2048], text[900];
    memset(text, 0, sizeof text);
    while (strlen(text) < 700) strcat(text, sentence);
    int size = snprintf(body, sizeof body,
        "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",\"created\":1700000000,"
        "\"model\":\"%s\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
        "\"content\":\"%s\"},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{"
        "\"prompt_tokens\":200,\"completion_tokens\":150,\"total_tokens\":350}}", model, text);
    return snprintf(to, room,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s",
        size, body);
}

static void prepare(void) {
    char body[2048];
    answer_size = prepare_answer(answer, sizeof answer, "served", "Your parcel is on its way. ");
    tuned_size = prepare_answer(tuned, sizeof tuned, "tuned", "We sent it out this morning");
    int size = snprintf(body, sizeof body,
        "{\"object\":\"list\",\"data\":[{\"id\":\"served\",\"object\":\"model\","
        "\"created\":1700000000,\"owned_by\":\"bench\"}]}");
    models_size = snprintf(models, sizeof models,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s",
        size, body);
    size = snprintf(body, sizeof body,
        "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\","
        "\"created\":1700000000,\"model\":\"served\",\"choices\":[{\"index\":0,\"delta\":{"
        "\"content\":\" parcel\"},\"finish_reason\":null}]}\n\n");
    event_size = snprintf(event, sizeof event, "%x\r\n%s\r\n", size, body);
    head_size = snprintf(head, sizeof head,
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
        "transfer-encoding: chunked\r\n\r\n%s", event);
    for (int i = 0; i < FLOOD_EVENTS; i++, block_size += event_size)
        memcpy(block + block_size, event, event_size);
}

static int take(connection *c);

static int flood(connection *c) { /* send until the socket is full; more when it has room */
    struct epoll_event want = {.events = EPOLLIN | EPOLLOUT, .data.fd = c->fd};
    while (c->blocks) { /* the last one is the end of the stream */
        const char *data = c->blocks > 1 ? block : DONE;
        int size = c->blocks > 1 ? block_size : (int)sizeof DONE - 1;
        ssize_t sent = send(c->fd, data + c->at, size - c->at, MSG_NOSIGNAL);
        if (sent < 0) return errno == EAGAIN ? epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &want) : -1;
        c->at += (int)sent;
        if (c->at < size) continue;
        c->at = 0;
        c->blocks--;
    }
    want.events = EPOLLIN;
    if (epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &want)) return -1;
    return take(c);
}

static int respond(connection *c, const char *body, long size) {
    if (c->input[0] == 'G') return put(c, models, models_size);
    if (!memmem(body, size, "\"stream\":true", 13) && !memmem(body, size, "\"stream\": true", 14))
        return memmem(body, size, "\"tuned\"", 7) ? put(c, tuned, tuned_size)
                                                : put(c, answer, answer_size);
    if (put(c, head, head_size)) return -1;
    if (memmem(body, size, "[[flood]]", 9)) {
        int buffer = FLOOD_BUFFER;
        setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
        c->blocks = FLOOD_BLOCKS;
        return 0;
    }
    c->left = chunks - 1;
    c->due = now_ns() + interval;
    enqueue(c);
    return 0;
}

static int take(connection *c) { /* answer every whole request in the input */
    while (c->used && !c->queued && !c->blocks) {
        char *end = memmem(c->input, c->used, "\r\n\r\n", 4);
        if (!end) return c->used == INPUT ? -1 : 0;
        long length = 0;
        for (char *line = memmem(c->input, end - c->input, "\r\n", 2); line && line < end;
             line = memmem(line + 2, end + 2 - (line + 2), "\r\n", 2)) {
            if (!strncasecmp(line + 2, "content-length:", 15)) length = atol(line + 17);
            if (!strncasecmp(line + 2, "expect:", 7) &&
                put(c, "HTTP/1.1 100 Continue\r\n\r\n", 25)) return -1;
        }
        long size = end + 4 - c->input + length;
        if (length < 0 || size > INPUT) return -1;
        if (c->used < size) return 0;
        if (respond(c, end + 4, length)) return -1;
        memmove(c->input, c->input + size, c->used - size);
        c->used -= (int)size;
        if (c->blocks) return flood(c);
    }
    return 0;
}

static void tick(int64_t now) {
    while (first && first->due <= now) {
        connection *c = first;
        unqueue(c);
        if (c->left-- > 0) {
            if (put(c, event, event_size)) { drop(c); continue; }
            c->due += interval;
            if (c->due < now) c->due = now;
            /* keep the queue sorted when this one was late */
            if (last && last->due > c->due) c->due = last->due;
            enqueue(c);
        } else if (put(c, DONE, sizeof DONE - 1) || take(c)) {
            drop(c);
        }
    }
}

int main(int count, char **values) {
    if (count != 4) return 2;
    chunks = atoi(values[1]);
    interval = (int64_t)(atof(values[2]) * 1e6);
    int64_t until = now_ns() + (int64_t)(atof(values[3]) * 1e9);
    prepare();
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 4096) ||
        getsockname(listener, (struct sockaddr *)&address, &size)) return 1;
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    poller = epoll_create1(0);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event events[256], want = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &want);
    want.data.fd = timer;
    epoll_ctl(poller, EPOLL_CTL_ADD, timer, &want);
    int64_t armed = 0;
    for (int64_t now = now_ns(); now < until; now = now_ns()) {
        tick(now);
        if (first && first->due != armed) {
            armed = first->due;
            struct itimerspec at = {.it_value = {armed / 1000000000, armed % 1000000000}};
            timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
        }
        int ready = epoll_wait(poller, events, 256, 200);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == timer) {
                uint64_t fired;
                if (read(timer, &fired, sizeof fired) > 0) armed = 0;
                continue;
            }
            if (fd == listener) {
                int client;
                while ((client = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    connection *c = client < MAX_FD ? calloc(1, sizeof *c) : NULL;
                    if (!c) { close(client); continue; }
                    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    c->fd = client;
                    connections[client] = c;
                    want.data.fd = client;
                    epoll_ctl(poller, EPOLL_CTL_ADD, client, &want);
                }
                continue;
            }
            connection *c = connections[fd];
            if (!c) continue;
            if (c->blocks && events[i].events & EPOLLOUT && flood(c)) { drop(c); continue; }
            ssize_t got = recv(fd, c->input + c->used, INPUT - c->used, 0);
            if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
            if (got <= 0) { drop(c); continue; }
            c->used += (int)got;
            if (take(c)) drop(c);
        }
    }
    return 0;
}
