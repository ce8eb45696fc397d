// SPDX-License-Identifier: Apache-2.0
// A disk image: a regular file or a block device, locked against a second user.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "devices/virtio/block/options.hpp"
#include "devices/virtio/block/overlay.hpp"
#include "vmm/base/os.hpp"

namespace inox::devices::virtio {

/// What the host says about good and possible access, in bytes.
struct BlockTopology {
    std::uint32_t logical{512};       ///< smallest addressable unit
    std::uint32_t physical{4096};     ///< smallest unit written without reading first
    std::uint32_t minimum_io{0};      ///< 0: unknown
    std::uint32_t optimal_io{0};      ///< 0: unknown
    std::uint32_t discard_unit{4096}; ///< alignment of useful discards
};

/// Reading and writing are left to the engines; everything else is here. Operations return 0 or an errno; they change
/// nothing in this object, so any thread may call them.
class BlockFile {
public:
    /// Refuses directories, files of other formats, and images another process or disk holds: a writer excludes all
    /// others (open-file-description lock). `way_out`: how a file of another format could be used as it is, for the
    /// hint. A temporary one is opened for reading only, and takes writes until it dies.
    static Result<BlockFile> open_temporary(const std::string& path, ImageContents contents, const char* way_out);
    static Result<BlockFile> open(const BlockOptions& options, const char* way_out = usual_way_out) {
        return options.temporary ? open_temporary(options.path, options.contents, way_out)
                                 : open(options.path, options.read_only, options.contents, way_out);
    }
    static Result<BlockFile> open(const std::string& path, bool read_only,
                                  ImageContents contents = ImageContents::raw_disk,
                                  const char* way_out = usual_way_out);
    static constexpr const char* usual_way_out = "use format=raw if the guest must see the file as it is";

    [[nodiscard]] int fd() const { return fd_.get(); }
    [[nodiscard]] const std::string& path() const { return path_; }
    /// Size when it was opened or refreshed: what the guest was told. Whole sectors; what is left of the file after
    /// them is not part of the disk.
    [[nodiscard]] std::uint64_t size() const { return size_; }
    [[nodiscard]] bool is_device() const { return is_device_; }
    /// Whether its file system can say that it would have to wait (RWF_NOWAIT). One that cannot may wait for any I/O.
    [[nodiscard]] bool takes_nowait() const { return takes_nowait_; }
    [[nodiscard]] const BlockTopology& topology() const { return topology_; }

    /// What takes the writes of a temporary disk; null for others. Only the disk's worker uses it.
    [[nodiscard]] BlockOverlay* overlay() const { return overlay_.get(); }
    /// Whether `path` now names this very file.
    [[nodiscard]] bool is(const std::string& path) const;
    /// Takes over a changed size. A temporary disk keeps the one it had.
    Result<void> refresh_size();
    /// The size right now as this host knows it, at most size(): less when somebody cut the image. Asks no server of a
    /// network file system, and so never waits for one.
    [[nodiscard]] std::uint64_t present_size() const noexcept;

    /// Data written before is on stable storage.
    [[nodiscard]] int sync() const noexcept;
    /// Gives the space back where the host can; the contents are undefined then.
    [[nodiscard]] int discard(std::uint64_t offset, std::uint64_t length) const noexcept;
    /// By the cheapest way the host has, writing zeroes in the end.
    [[nodiscard]] int write_zeroes(std::uint64_t offset, std::uint64_t length, bool unmap) const noexcept;

    /// Keeps others out, as open() does; in_use. And lets them in again.
    Result<void> lock(bool read_only);
    void unlock() const noexcept;

private:
    BlockFile(UniqueFd fd, std::string path) : fd_{std::move(fd)}, path_{std::move(path)} {}
    Result<void> inspect();
    [[nodiscard]] Result<void> check_format(const char* way_out) const;
    void read_device_topology();

    UniqueFd fd_;
    std::string path_;
    std::uint64_t size_{0};
    std::uint64_t device_id_{0};
    std::uint64_t inode_{0};
    bool is_device_{false};
    bool takes_nowait_{true};
    BlockTopology topology_{};
    std::unique_ptr<BlockOverlay> overlay_{};
};

/// fallocate(2) mode that does what discard() or write_zeroes() try first; -1 when it takes another call.
[[nodiscard]] int discard_mode(const BlockFile& file);
[[nodiscard]] int write_zeroes_mode(bool unmap);
/// Zeroes in a regular file, by the cheapest way it has; 0 or an errno.
[[nodiscard]] int zero_file(int fd, std::uint64_t offset, std::uint64_t length, bool unmap) noexcept;
/// Whether such a result of fallocate(2) means that another way has to be tried.
[[nodiscard]] bool is_unsupported(int error);

} // namespace inox::devices::virtio
