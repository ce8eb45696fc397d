// SPDX-License-Identifier: Apache-2.0
// What is written to a temporary disk: a file without a name, which is gone with its last descriptor, and a bitmap of
// the pages of the image that are there and no longer in the image. The image itself is only read.
#pragma once

#include <cstdint>

#include "devices/virtio/block/engine.hpp"
#include "vmm/base/bytes.hpp"
#include "vmm/base/os.hpp"

namespace inox::devices::virtio {

/// The file takes at most the image's size, and what its file system has free: then writes fail with ENOSPC. The bitmap
/// has a bit for each 4 KiB, and takes memory only where something was written. One thread at a time.
class BlockOverlay {
public:
    static constexpr std::uint64_t page = page_size;

    /// In $TMPDIR, or /var/tmp. `size`: bytes of the image. output_unwritable.
    static Result<BlockOverlay> create(std::uint64_t size);

    /// Carries out a read or write over what `image` has. Its error, as in BlockJob.
    [[nodiscard]] int transfer(int image, BlockJob& job) noexcept;
    /// Makes a range zeroes; 0 or an errno.
    [[nodiscard]] int clear(int image, std::uint64_t offset, std::uint64_t length) noexcept;

private:
    BlockOverlay(UniqueFd file, Mapping bitmap) : file_{std::move(file)}, bitmap_{std::move(bitmap)} {}
    [[nodiscard]] bool has(std::uint64_t index) const noexcept;
    void note(std::uint64_t offset, std::uint64_t length) noexcept;
    /// Brings a page that will be overwritten in part.
    [[nodiscard]] int keep_rest(int image, std::uint64_t offset, std::uint64_t length) noexcept;
    [[nodiscard]] int take(int image, std::uint64_t index) noexcept;
    /// Bytes from `offset` on, at most `length`, that are all here or all in the image.
    [[nodiscard]] std::uint64_t run(std::uint64_t offset, std::uint64_t length) const noexcept;

    UniqueFd file_;
    Mapping bitmap_;
};

} // namespace inox::devices::virtio
