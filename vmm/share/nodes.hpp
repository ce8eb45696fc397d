// SPDX-License-Identifier: Apache-2.0
// What the guest knows of the folder: files, folders and the rest, each by a number and held by an O_PATH descriptor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <map>
#include <sys/stat.h>
#include <unordered_map>

#include "vmm/base/os.hpp"

namespace inox::share {

/// 1 is the folder itself; a number is used once in a server's life. The guest can send any number.
using NodeId = std::uint64_t;

struct Node {
    UniqueFd fd{};           ///< O_PATH
    mode_t type{};           ///< S_IFMT bits of its mode, which never change
    std::uint64_t lookups{}; ///< that the guest has not forgotten
    dev_t device{};
    ino_t inode{};
};

class Nodes {
public:
    static constexpr NodeId root = 1;

    /// `folder`: an O_PATH descriptor of the root. At most `most` others are held.
    Nodes(UniqueFd folder, std::size_t most);

    /// Null for a number that names nothing. Valid until it is forgotten.
    [[nodiscard]] Node* find(NodeId id) noexcept;
    /// One look-up more of what `fd` (O_PATH) is, new or known. ENFILE when no more can be held; errno of fstat(2).
    [[nodiscard]] std::expected<NodeId, int> add(UniqueFd fd, struct stat& status);
    [[nodiscard]] bool full() const noexcept { return nodes_.size() > most_; }
    /// True when the node is gone.
    bool forget(NodeId id, std::uint64_t lookups);
    void forget_all();
    [[nodiscard]] std::size_t count() const noexcept { return nodes_.size(); }

private:
    std::size_t most_;
    NodeId next_{root + 1};
    std::unordered_map<NodeId, Node> nodes_{};
    std::map<std::pair<dev_t, ino_t>, NodeId> by_inode_{};
};

} // namespace inox::share
