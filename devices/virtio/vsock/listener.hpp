// SPDX-License-Identifier: Apache-2.0
// The unix sockets at which host programs and the guest's streams meet.
#pragma once

#include <sys/stat.h>

#include <string>

#include "vmm/base/os.hpp"

namespace inox::devices::virtio {

/// Listens at a path, readable and writable by the owner alone; the path goes with it.
class VsockListener {
public:
    static constexpr std::size_t longest_path = 107;
    /// A guest's connections go to PATH_PORT, "_4294967295" at most.
    static constexpr std::size_t longest_uds_path = longest_path - 11;
    /// What is wrong with the length of a path; empty: nothing.
    static std::string length_problem(std::size_t bytes);

    /// Replaces a socket nobody listens at. Refuses one in use, anything that is not a socket, and a path that leaves
    /// no room for any port.
    static Result<VsockListener> create(const std::string& path);
    /// Whether create() would work; nothing is made or removed.
    static Result<void> check(const std::string& path);
    ~VsockListener();
    VsockListener(VsockListener&&) noexcept = default;
    VsockListener& operator=(VsockListener&&) = delete;
    VsockListener(const VsockListener&) = delete;
    VsockListener& operator=(const VsockListener&) = delete;

    [[nodiscard]] int fd() const { return socket_.get(); }
    [[nodiscard]] const std::string& path() const { return path_; }
    /// The next host program, non-blocking; empty, with errno set, when there is none.
    [[nodiscard]] UniqueFd accept() const;

private:
    VsockListener(UniqueFd socket, std::string path) : socket_{std::move(socket)}, path_{std::move(path)} {}

    UniqueFd socket_;
    std::string path_;
    struct stat identity_ {};
};

/// Connects to a program that listens at `path`; empty, with errno, when there is none.
UniqueFd connect_unix(const std::string& path);
/// The same for the loop. Where another process has to connect it, `answer` is readable once outside::connected(answer)
/// can tell whether it has.
UniqueFd connect_unix_later(const std::string& path, UniqueFd& answer);

} // namespace inox::devices::virtio
