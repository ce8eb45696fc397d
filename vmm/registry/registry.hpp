// SPDX-License-Identifier: Apache-2.0
// The running guests of this user that have an id. Each has a file "ID.lock" in one folder, which its process holds
// locked: whoever can lock it knows that the process is gone. Any thread; every call looks at the folder anew.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

#include "vmm/base/os.hpp"

namespace inox::registry {

struct Guest {
    std::string id{};
    pid_t pid{};
    std::string socket{}; ///< path of its control API
    std::chrono::seconds age{};
};

/// An id that is ours until this object dies, or the process does, however it does.
class Claim {
public:
    /// Makes the folder on first use, with mode 0700. `socket`: where the guest's API will be; empty: in the folder.
    /// in_use with the pid of who has the id; output_unwritable when there is no folder that only this user can write.
    static Result<Claim> take(const std::string& id, const std::string& socket = {});
    Claim(Claim&& other) noexcept = default;
    Claim& operator=(Claim&&) = delete;
    Claim(const Claim&) = delete;
    Claim& operator=(const Claim&) = delete;
    ~Claim();
    /// Path of the API's socket.
    [[nodiscard]] const std::string& socket() const { return socket_; }
    /// The file that is removed at the end.
    [[nodiscard]] const std::string& path() const { return path_; }

private:
    Claim(UniqueFd lock, std::string path, std::string socket)
        : lock_{std::move(lock)}, path_{std::move(path)}, socket_{std::move(socket)} {}
    UniqueFd lock_;
    std::string path_;
    std::string socket_;
};

/// Where the files of ids are; it is made if it is not there. output_unwritable.
Result<std::string> folder();
/// Whether take() would succeed; nothing is made.
Result<void> check(const std::string& id);
/// Those that run, by id. Removes what is left of those that are gone.
std::vector<Guest> running();
/// The one with this id, if it runs.
std::optional<Guest> find(const std::string& id);

} // namespace inox::registry
