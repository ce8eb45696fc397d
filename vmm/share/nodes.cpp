// SPDX-License-Identifier: Apache-2.0
#include "vmm/share/nodes.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>

namespace inox::share {

Nodes::Nodes(UniqueFd folder, std::size_t most) : most_{most} {
    struct stat status {};
    ::fstat(folder.get(), &status);
    by_inode_[{status.st_dev, status.st_ino}] = root;
    nodes_[root] = {std::move(folder), status.st_mode & S_IFMT, 0, status.st_dev, status.st_ino};
}

Node* Nodes::find(NodeId id) noexcept {
    const auto found = nodes_.find(id);
    return found == nodes_.end() ? nullptr : &found->second;
}

std::expected<NodeId, int> Nodes::add(UniqueFd fd, struct stat& status) {
    if (::fstatat(fd.get(), "", &status, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0)
        return std::unexpected{errno};
    const auto key = std::pair{status.st_dev, status.st_ino};
    if (const auto known = by_inode_.find(key); known != by_inode_.end()) {
        nodes_[known->second].lookups += 1;
        return known->second;
    }
    if (full())
        return std::unexpected{ENFILE};
    const NodeId id = next_++;
    nodes_[id] = {std::move(fd), status.st_mode & S_IFMT, 1, status.st_dev, status.st_ino};
    by_inode_[key] = id;
    return id;
}

bool Nodes::forget(NodeId id, std::uint64_t lookups) {
    const auto found = nodes_.find(id);
    if (found == nodes_.end() || id == root)
        return false;
    Node& node = found->second;
    node.lookups -= std::min(node.lookups, lookups);
    if (node.lookups != 0)
        return false;
    by_inode_.erase({node.device, node.inode});
    nodes_.erase(found);
    return true;
}

void Nodes::forget_all() {
    std::erase_if(nodes_, [](const auto& one) { return one.first != root; });
    std::erase_if(by_inode_, [](const auto& one) { return one.second != root; });
}

} // namespace inox::share
