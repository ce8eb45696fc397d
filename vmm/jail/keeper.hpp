// SPDX-License-Identifier: Apache-2.0
// The keeper: a process outside the jail that waits until the jail's processes are gone, however they ended, and then
// removes what they left on the host.
#pragma once

#include <string>
#include <vector>

#include "vmm/base/os.hpp"

namespace inox::jail {

/// What a jail makes on the host; only what is there is removed.
struct Traces {
    std::vector<std::string> cgroups{};
    std::string tree{};                 ///< the jail's folder: see Keeper::owns_tree()
    std::string pid_file{};             ///< removed when it names a process that is gone
    std::vector<std::string> sockets{}; ///< removed when nobody listens

    [[nodiscard]] bool any() const {
        return !cgroups.empty() || !tree.empty() || !pid_file.empty() || !sockets.empty();
    }
};

/// In a jail's folder: there is a jail.
inline constexpr const char* tree_in_use = "root/dev/net/tun";

void remove(const Traces& traces, bool with_tree);

class Keeper {
public:
    /// Nobody: there is nothing to keep.
    Keeper() = default;
    /// Forks twice; host_error. The keeper has no descriptor of the caller's.
    static Result<Keeper> start(const Traces& traces);

    /// The keeper waits for the end of the calling process, too, before it removes anything. Not for who will finish().
    Result<void> watch_me() const;
    /// Whether the folder is this jail's. Before that is told, the keeper removes one that is in nobody's use.
    Result<void> owns_tree(bool own) const;
    /// Tells the keeper that the caller is done, and waits until all is removed; removes it here where the keeper was
    /// killed.
    void finish(const Traces& traces);

private:
    [[nodiscard]] Result<void> tell(char word) const;

    UniqueFd socket_{};
};

} // namespace inox::jail
