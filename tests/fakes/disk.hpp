// SPDX-License-Identifier: Apache-2.0
// A block device with everything around it: an image file, guest RAM, the driver's side of its queues, a running loop.
//
//   Disk disk{{.read_only = true}};
//   CHECK(disk.read(0, 512) == Answer{ok, pattern});
#pragma once

#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "devices/virtio/block/block.hpp"
#include "devices/virtio/block/file.hpp"
#include "tests/fakes/virtqueue_driver.hpp"
#include "vmm/base/event_loop.hpp"

namespace inox::fakes {

/// A file of `size` bytes in which each sector starts with its number; gone at the end.
class TempImage {
public:
    explicit TempImage(std::uint64_t size);
    TempImage(const TempImage&) = delete;
    TempImage& operator=(const TempImage&) = delete;
    ~TempImage() { ::unlink(path_.c_str()); }

    [[nodiscard]] const std::string& path() const { return path_; }
    [[nodiscard]] int fd() const { return fd_.get(); }
    void resize(std::uint64_t size) { (void)!::ftruncate(fd_.get(), static_cast<off_t>(size)); }
    [[nodiscard]] std::uint64_t size() const { return *file_size(fd_.get()); }
    [[nodiscard]] std::string bytes(std::uint64_t offset, std::size_t size) const;
    [[nodiscard]] std::uint64_t allocated() const;

private:
    std::string path_{"/tmp/inox-disk-XXXXXX"};
    UniqueFd fd_;
};

/// What the guest gets for a request.
struct Answer {
    int status{-1};
    std::uint32_t length{0};
    std::string data{};
};

struct Disk {
    using Block = devices::virtio::Block;

    static constexpr std::uint64_t ring_features = devices::virtio::feature::version_1;

    explicit Disk(devices::virtio::BlockOptions options = {}, std::uint64_t size = MiB,
                  std::unique_ptr<devices::virtio::BlockEngine> engine = nullptr);
    ~Disk();

    /// Guest RAM and devices belong to the loop's thread: everything that touches them goes through here.
    template <class F> auto on_loop(F work) { return loop.call(std::move(work)); }

    void activate(std::uint64_t without = 0, std::uint64_t with = 0);

    void kick(unsigned queue = 0);

    using Pieces = std::vector<VirtqueueDriver::Piece>;
    static std::string header(std::uint32_t type, std::uint64_t sector);
    Pieces post(std::uint32_t type, std::uint64_t sector, std::string_view out, std::uint32_t in, unsigned queue = 0);
    /// Waits up to five seconds.
    std::optional<VirtqueueDriver::Used> wait_used(unsigned queue = 0);
    Answer answer_of(const Pieces& pieces, std::uint32_t length);
    /// One request, start to end.
    Answer request(std::uint32_t type, std::uint64_t sector, std::string_view out, std::uint32_t in,
                   unsigned queue = 0);
    Answer read(std::uint64_t sector, std::uint32_t bytes) { return request(VIRTIO_BLK_T_IN, sector, "", bytes); }
    Answer write(std::uint64_t sector, std::string_view data) { return request(VIRTIO_BLK_T_OUT, sector, data, 0); }
    Answer flush() { return request(VIRTIO_BLK_T_FLUSH, 0, "", 0); }
    static std::string range(std::uint64_t sector, std::uint32_t sectors, std::uint32_t flags = 0);
    template <class T> T config(std::uint64_t offset) {
        T value{};
        block->read_config(offset, std::as_writable_bytes(std::span{&value, 1}));
        return value;
    }

    TempImage image;
    EventLoop loop{};
    TestRam ram{64 * MiB};
    RecordingNotifier notifier{};
    std::vector<std::unique_ptr<VirtqueueDriver>> drivers{};
    std::shared_ptr<Block> block{};
    std::jthread thread{};
};

} // namespace inox::fakes
