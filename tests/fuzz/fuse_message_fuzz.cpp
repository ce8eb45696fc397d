// SPDX-License-Identifier: Apache-2.0
// FUSE messages from a guest to the server of a folder. Whatever they say, the server goes on, it answers at most once
// for each, and what lies outside of the folder stays as it was.
//
//   input   messages: opcode, node, 2-byte length, then the bytes behind the header
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <thread>

#include "tests/fuzz/input.hpp"
#include "vmm/base/log.hpp"
#include "vmm/share/message.hpp"
#include "vmm/share/server.hpp"

using namespace inox;

namespace {

using fuzz::Input;
using fuzz::require;

/// FUSE_INIT as Linux sends it, so that a session exists.
constexpr std::array<std::uint32_t, 16> init_body{7, 36, 0x20000, 0};

void add_message(std::string& out, std::uint32_t opcode, std::uint64_t node, std::uint64_t unique,
                 std::span<const std::byte> body) {
    fuse_in_header header{};
    header.len = static_cast<std::uint32_t>(sizeof header + body.size());
    header.opcode = opcode;
    header.unique = unique;
    header.nodeid = node;
    out.append(reinterpret_cast<const char*>(&header), sizeof header);   // NOLINT
    out.append(reinterpret_cast<const char*>(body.data()), body.size()); // NOLINT
}

/// Reads the server's answers to the end of the stream; returns how many there were.
std::size_t take_answers(int guest, std::uint64_t unique) {
    std::size_t answers = 0;
    fuse_out_header header{};
    while (::recv(guest, &header, sizeof header, MSG_WAITALL) == sizeof header) {
        require(header.len >= sizeof header && header.len <= share::max_message);
        require(header.error <= 0 && header.error > -1000 && header.unique < unique);
        std::vector<char> body(header.len - sizeof header);
        require(::recv(guest, body.data(), body.size(), MSG_WAITALL) == static_cast<ssize_t>(body.size()));
        ++answers;
    }
    return answers;
}

/// A folder with a little in it, beside a file that nobody may touch.
struct Target {
    std::string outer{"/dev/shm/inox-fuzz-XXXXXX"}; // in memory: guests flush often
    std::filesystem::path secret{};
    std::filesystem::path inner{};

    Target() {
        require(::mkdtemp(outer.data()) != nullptr);
        secret = outer + "/secret";
        inner = outer + "/inner";
    }
    ~Target() { std::filesystem::remove_all(outer); }
    Target(const Target&) = delete;
    Target& operator=(const Target&) = delete;

    void prepare() const {
        std::filesystem::remove_all(inner);
        std::filesystem::create_directories(inner / "folder");
        std::ofstream{inner / "file"} << "text";
        std::error_code ignored;
        std::filesystem::create_symlink("../secret", inner / "link", ignored);
    }
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    log::set_level(log::Level::off);
    static const Target target;
    static const bool made = [] {
        std::ofstream{target.secret} << "secret";
        // A guest may fill the host's disk; this one shall not.
        const rlimit small{16 << 20, 16 << 20};
        (void)std::signal(SIGXFSZ, SIG_IGN);
        return ::setrlimit(RLIMIT_FSIZE, &small) == 0;
    }();
    require(made);
    target.prepare();
    Input input{std::as_bytes(std::span{data, size})};
    std::string messages;
    add_message(messages, FUSE_INIT, 0, 1, std::as_bytes(std::span{init_body}));
    std::uint64_t unique = 2;
    for (; unique < 40 && !input.empty(); unique += 2) {
        const auto opcode = input.take<std::uint8_t>();
        const auto node = input.take<std::uint8_t>();
        const auto length = input.take<std::uint16_t>() % 512U;
        // Everything is made below the folder or not at all: special files would need cleaning up.
        if (opcode == FUSE_MKNOD)
            continue;
        add_message(messages, opcode, node == 255 ? ~0ULL : node, unique, input.take(length));
    }
    std::array<int, 2> ends{};
    require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
    const UniqueFd guest{ends[0]};
    std::size_t answers = 0;
    {
        UniqueFd folder{::open(target.inner.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)};
        share::Server server{UniqueFd{ends[1]}, share::Folder{std::move(folder), false, {.nodes = 64, .handles = 16}}};
        const std::jthread thread{[&] { (void)server.run(); }};
        // At most 20 KiB, which a socket takes at once.
        require(::send(guest.get(), messages.data(), messages.size(), MSG_NOSIGNAL) ==
                static_cast<ssize_t>(messages.size()));
        ::shutdown(guest.get(), SHUT_WR);
        answers = take_answers(guest.get(), unique);
    }
    require(answers <= unique / 2);
    struct stat status {};
    require(::stat(target.secret.c_str(), &status) == 0 && status.st_size == 6 && (status.st_mode & 0777) != 0);
    return 0;
}
