// SPDX-License-Identifier: Apache-2.0
// A cpio archive in the "newc" format, as Linux takes it for its first file system
// (Documentation/driver-api/early-userspace/buffer-format.rst).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/error.hpp"

namespace inox::guest_root {

/// "a/b" of "/./a//b/": a path inside of an archive; empty for the root itself. root_invalid for one with "..", or one
/// that is longer than Linux takes.
Result<std::string> inner_path(std::string_view path);

class CpioWriter {
public:
    /// Of what an entry is besides its path and its bytes.
    struct Node {
        std::uint32_t mode{0100644}; ///< with its type, as in struct stat
        std::uint32_t uid{0};
        std::uint32_t gid{0};
        std::uint32_t mtime{0}; ///< seconds
        std::uint32_t major{0}; ///< of a device file
        std::uint32_t minor{0};
    };

    /// `most`: bytes that the archive may have; beyond it add() fails with initrd_does_not_fit.
    explicit CpioWriter(std::uint64_t most) : most_{most} {}

    /// `data`: a file's bytes, or where a symbolic link leads. Folders above it are made where there are none. Of two
    /// entries with one path Linux keeps the later one.
    Result<void> add(std::string_view path, const Node& node, std::span<const std::byte> data = {});
    Result<void> add(std::string_view path, const Node& node, std::string_view data) {
        return add(path, node, std::as_bytes(std::span{data}));
    }
    /// A file whose bytes come in pieces: append() until there are `size`.
    Result<void> begin(std::string_view path, const Node& node, std::uint64_t size);
    void append(std::span<const std::byte> piece);
    /// A second name of a file that was added before. root_invalid when there is none.
    Result<void> link(std::string_view path, std::string_view to);
    /// The archive, whole. Nothing can be added any more.
    std::vector<std::byte> finish();

    [[nodiscard]] std::uint64_t size() const { return bytes_.size(); }

private:
    struct File {
        std::size_t at; ///< of its header
        std::uint32_t number;
        Node node;
    };
    Result<void> make_folders(std::string_view path);
    Result<void> write_header(std::string_view path, const Node& node, std::uint32_t number, std::uint32_t links,
                              std::uint64_t size);
    void align();

    std::uint64_t most_;
    std::vector<std::byte> bytes_{};
    std::map<std::string, File, std::less<>> files_{};   ///< what link() may name
    std::map<std::string, bool, std::less<>> folders_{}; ///< true: with the owner's own attributes
    std::uint32_t next_number_{1};
    std::uint64_t open_{0}; ///< bytes that append() still expects
};

} // namespace inox::guest_root
