// SPDX-License-Identifier: Apache-2.0
#include "vmm/share/message.hpp"

#include <algorithm>
#include <cstring>
#include <optional>

namespace inox::share {
namespace {

enum class Tail : std::uint8_t { none, data, forgets, init };

/// What follows the header: a structure, then names that end in NUL, then `tail`.
struct Layout {
    std::size_t structure{};
    unsigned names{};
    Tail tail{Tail::none};
};

std::optional<Layout> layout_of(std::uint32_t opcode) {
    switch (opcode) {
    case FUSE_INIT:
        return Layout{16, 0, Tail::init}; // as it was until 7.35
    case FUSE_DESTROY:
    case FUSE_READLINK:
    case FUSE_STATFS:
        return Layout{};
    case FUSE_LOOKUP:
    case FUSE_UNLINK:
    case FUSE_RMDIR:
    case FUSE_REMOVEXATTR:
        return Layout{0, 1};
    case FUSE_SYMLINK:
        return Layout{0, 2};
    case FUSE_FORGET:
        return Layout{sizeof(fuse_forget_in)};
    case FUSE_BATCH_FORGET:
        return Layout{sizeof(fuse_batch_forget_in), 0, Tail::forgets};
    case FUSE_GETATTR:
        return Layout{sizeof(fuse_getattr_in)};
    case FUSE_SETATTR:
        return Layout{sizeof(fuse_setattr_in)};
    case FUSE_MKNOD:
        return Layout{sizeof(fuse_mknod_in), 1};
    case FUSE_MKDIR:
        return Layout{sizeof(fuse_mkdir_in), 1};
    case FUSE_CREATE:
        return Layout{sizeof(fuse_create_in), 1};
    case FUSE_LINK:
        return Layout{sizeof(fuse_link_in), 1};
    case FUSE_RENAME:
        return Layout{sizeof(fuse_rename_in), 2};
    case FUSE_RENAME2:
        return Layout{sizeof(fuse_rename2_in), 2};
    case FUSE_OPEN:
    case FUSE_OPENDIR:
        return Layout{sizeof(fuse_open_in)};
    case FUSE_READ:
    case FUSE_READDIR:
    case FUSE_READDIRPLUS:
        return Layout{sizeof(fuse_read_in)};
    case FUSE_WRITE:
        return Layout{sizeof(fuse_write_in), 0, Tail::data};
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
        return Layout{sizeof(fuse_release_in)};
    case FUSE_FLUSH:
        return Layout{sizeof(fuse_flush_in)};
    case FUSE_FSYNC:
    case FUSE_FSYNCDIR:
        return Layout{sizeof(fuse_fsync_in)};
    case FUSE_SETXATTR:
        return Layout{FUSE_COMPAT_SETXATTR_IN_SIZE, 1, Tail::data};
    case FUSE_GETXATTR:
        return Layout{sizeof(fuse_getxattr_in), 1};
    case FUSE_LISTXATTR:
        return Layout{sizeof(fuse_getxattr_in)};
    case FUSE_GETLK:
    case FUSE_SETLK:
    case FUSE_SETLKW:
        return Layout{sizeof(fuse_lk_in)};
    case FUSE_INTERRUPT:
        return Layout{sizeof(fuse_interrupt_in)};
    case FUSE_FALLOCATE:
        return Layout{sizeof(fuse_fallocate_in)};
    case FUSE_LSEEK:
        return Layout{sizeof(fuse_lseek_in)};
    case FUSE_COPY_FILE_RANGE:
        return Layout{sizeof(fuse_copy_file_range_in)};
    default:
        return std::nullopt;
    }
}

std::uint32_t number_at(std::span<const std::byte> bytes, std::size_t offset) {
    std::uint32_t value = 0;
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
}

/// The tail's exact size; nullopt when the structure in front cannot be right.
std::optional<std::uint64_t> tail_size(Tail tail, std::uint32_t opcode, std::span<const std::byte> arguments) {
    switch (tail) {
    case Tail::none:
        return 0;
    case Tail::data:
        return number_at(arguments, opcode == FUSE_WRITE ? offsetof(fuse_write_in, size) : 0);
    case Tail::forgets:
        return std::uint64_t{number_at(arguments, 0)} * sizeof(fuse_forget_one);
    case Tail::init: {
        constexpr std::size_t rest = sizeof(fuse_init_in) - 16;
        const bool longer = arguments.size() > 16;
        // The second half of the flags is read wherever the first half announces it.
        if (!longer && (number_at(arguments, offsetof(fuse_init_in, flags)) & FUSE_INIT_EXT) != 0)
            return std::nullopt;
        return longer ? rest : 0;
    }
    }
    return std::nullopt;
}

} // namespace

Shape shape_of(std::span<const std::byte> message) noexcept {
    if (message.size() < sizeof(fuse_in_header))
        return Shape::malformed;
    const auto opcode = number_at(message, offsetof(fuse_in_header, opcode));
    const auto layout = layout_of(opcode);
    if (!layout)
        return Shape::unknown;
    const auto arguments = message.subspan(sizeof(fuse_in_header));
    if (arguments.size() < layout->structure)
        return Shape::malformed;
    auto rest = arguments.subspan(layout->structure);
    for (unsigned name = 0; name < layout->names; ++name) {
        const auto end = std::ranges::find(rest, std::byte{0});
        if (end == rest.end())
            return Shape::malformed;
        rest = {end + 1, rest.end()};
    }
    const auto tail = tail_size(layout->tail, opcode, arguments);
    return tail && *tail == rest.size() ? Shape::good : Shape::malformed;
}

} // namespace inox::share
