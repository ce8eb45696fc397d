// SPDX-License-Identifier: Apache-2.0
// A folder of the host, its server on a thread, and the guest's side of the socket.
#pragma once

#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sys/socket.h>
#include <thread>

#include "tests/support/files.hpp"
#include "tests/support/fuse_client.hpp"
#include "vmm/share/server.hpp"

namespace inox::tests {

/// "folder/shared" is served; what is beside it is not the guest's.
struct ShareWorld {
    explicit ShareWorld(bool read_only = false, share::Folder::Limits limits = {1000, 1000}) {
        (void)!::mkdtemp(top.data());
        std::filesystem::create_directory(shared());
        write("../secret", "not for the guest");
        int ends[2] = {-1, -1};
        (void)!::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends);
        guest.emplace(UniqueFd{ends[0]});
        UniqueFd root{::open(shared().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)};
        server.emplace(UniqueFd{ends[1]}, share::Folder{std::move(root), read_only, limits});
        thread = std::jthread{[this] { clean_end = server->run(); }};
    }
    ~ShareWorld() {
        end();
        std::error_code ignored; // guests also make folders that nobody may enter
        for (const auto& one : std::filesystem::directory_iterator{shared()})
            if (one.symlink_status().type() == std::filesystem::file_type::directory) // a link may lead to the host's
                std::filesystem::permissions(one.path(), std::filesystem::perms::owner_all, ignored);
        std::filesystem::remove_all(top, ignored);
    }
    ShareWorld(const ShareWorld&) = delete;
    ShareWorld& operator=(const ShareWorld&) = delete;

    /// The guest goes; the server's state can be looked at then.
    bool end() {
        guest.reset();
        if (thread.joinable())
            thread.join();
        return clean_end;
    }
    [[nodiscard]] std::string shared() const { return top + "/shared"; }
    [[nodiscard]] std::string path(const std::string& name) const { return shared() + "/" + name; }
    void write(const std::string& name, const std::string& text) const { std::ofstream{path(name)} << text; }
    [[nodiscard]] std::string text(const std::string& name) const { return slurp(path(name)); }

    std::string top{"/tmp/inox-share-XXXXXX"};
    std::optional<FuseClient> guest{};
    std::optional<share::Server> server{};
    bool clean_end{false};
    std::jthread thread{};
};

} // namespace inox::tests
