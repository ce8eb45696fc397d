// SPDX-License-Identifier: Apache-2.0
// api_load SOCKET CLIENTS RATE SECONDS: opens CLIENTS connections, and sends GET / on each of them RATE times a second.
// Prints p50, p99 and maximum in milliseconds, and the number of answers.
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using Time = Clock::time_point;

struct Client {
    int fd{-1};
    Time next{};
    Time sent{};
    bool waiting{false};
};

int dial(const char* path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        std::perror("connect");
        std::exit(1);
    }
    return fd;
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 5)
        return 2;
    static constexpr char request[] = "GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n";
    std::vector<Client> clients(std::strtoul(argv[2], nullptr, 10));
    const std::chrono::nanoseconds period{static_cast<long>(1e9 / std::atof(argv[3]))};
    const auto start = Clock::now();
    const auto end = start + std::chrono::nanoseconds{static_cast<long>(1e9 * std::atof(argv[4]))};
    std::vector<pollfd> polls;
    for (std::size_t i = 0; i < clients.size(); ++i) {
        clients[i].fd = dial(argv[1]);
        clients[i].next = start + period * static_cast<long>(i) / static_cast<long>(clients.size());
        polls.push_back({clients[i].fd, POLLIN, 0});
    }
    std::vector<double> took;
    while (Clock::now() < end) {
        auto now = Clock::now();
        Time soonest = now + std::chrono::milliseconds{10};
        for (auto& client : clients) {
            if (!client.waiting && client.next <= now) {
                client.sent = Clock::now();
                if (::send(client.fd, request, sizeof request - 1, MSG_NOSIGNAL) < 0)
                    return 1;
                client.waiting = true;
                client.next = std::max(client.next + period, client.sent);
            }
            if (!client.waiting)
                soonest = std::min(soonest, client.next);
        }
        const auto left = std::max<std::chrono::nanoseconds>(soonest - Clock::now(), std::chrono::nanoseconds{0});
        const timespec wait{0, static_cast<long>(left.count())};
        if (::ppoll(polls.data(), polls.size(), &wait, nullptr) <= 0)
            continue;
        for (std::size_t i = 0; i < clients.size(); ++i) {
            char answer[1024];
            if (polls[i].revents == 0)
                continue;
            if (::read(polls[i].fd, answer, sizeof answer) <= 0)
                return 1;
            took.push_back(std::chrono::duration<double, std::milli>(Clock::now() - clients[i].sent).count());
            clients[i].waiting = false;
        }
    }
    if (took.empty())
        return 1;
    std::sort(took.begin(), took.end());
    std::printf("%.3f %.3f %.3f %zu\n", took[took.size() / 2], took[took.size() * 99 / 100], took.back(), took.size());
}
