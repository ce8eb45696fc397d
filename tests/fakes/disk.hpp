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

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "devices/virtio/block/block.hpp"
#include "tests/fakes/virtqueue_driver.hpp"
#include "vmm/base/event_loop.hpp"

namespace inox::fakes {

/// A file of `size` bytes in which each sector starts with its number; gone at the end.
class TempImage {
public:
    explicit TempImage(std::uint64_t size) {
        fd_ = UniqueFd{::mkstemp(path_.data())};
        for (std::uint64_t at = 0; at + 512 <= size && at < MiB; at += 512) {
            const std::uint64_t sector = at / 512;
            (void)!::pwrite(fd_.get(), &sector, sizeof sector, static_cast<off_t>(at));
        }
        resize(size);
    }
    TempImage(const TempImage&) = delete;
    TempImage& operator=(const TempImage&) = delete;
    ~TempImage() { ::unlink(path_.c_str()); }

    [[nodiscard]] const std::string& path() const { return path_; }
    [[nodiscard]] int fd() const { return fd_.get(); }
    void resize(std::uint64_t size) { (void)!::ftruncate(fd_.get(), static_cast<off_t>(size)); }
    [[nodiscard]] std::uint64_t size() const { return *file_size(fd_.get()); }
    [[nodiscard]] std::string bytes(std::uint64_t offset, std::size_t size) const {
        std::string out(size, '?');
        const auto got = ::pread(fd_.get(), out.data(), size, static_cast<off_t>(offset));
        out.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
        return out;
    }
    [[nodiscard]] std::uint64_t allocated() const {
        struct stat status {};
        (void)::fstat(fd_.get(), &status);
        return static_cast<std::uint64_t>(status.st_blocks) * 512;
    }

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
                  std::unique_ptr<devices::virtio::BlockEngine> engine = nullptr)
        : image{size} {
        if (options.id.empty())
            options.id = "disk0";
        options.path = image.path();
        auto made = engine ? Block::create(options, loop, std::move(engine)) : Block::create(options, loop);
        if (!made)
            throw std::runtime_error{made.error().message()};
        block = *made;
        thread = std::jthread{[this] { loop.run(); }};
        activate();
    }
    ~Disk() {
        loop.call([this] { block.reset(); }); // the last reference
        loop.stop();
    }

    /// Guest RAM and devices belong to the loop's thread: everything that touches them goes through here.
    template <class F> auto on_loop(F work) { return loop.call(std::move(work)); }

    void activate(std::uint64_t without = 0, std::uint64_t with = 0) {
        using devices::virtio::Queue;
        const std::uint64_t features = ((block->features() | ring_features) & ~without) | with;
        on_loop([&] {
            drivers.clear();
            std::vector<std::optional<Queue>> queues;
            for (std::size_t i = 0; i < block->queue_sizes().size(); ++i) {
                drivers.push_back(std::make_unique<VirtqueueDriver>(ram, 128));
                queues.emplace_back(Queue{ram.direct, drivers.back()->layout, false});
            }
            block->activate(ram.direct, std::move(queues), features, notifier);
        });
    }

    void kick(unsigned queue = 0) {
        on_loop([&] { block->kick(queue); });
    }

    using Pieces = std::vector<VirtqueueDriver::Piece>;
    static std::string header(std::uint32_t type, std::uint64_t sector) {
        const virtio_blk_outhdr raw{type, 0, sector};
        return {reinterpret_cast<const char*>(&raw), sizeof raw}; // NOLINT: bytes of a wire struct
    }
    Pieces post(std::uint32_t type, std::uint64_t sector, std::string_view out, std::uint32_t in, unsigned queue = 0) {
        return on_loop([&] {
            auto chain = drivers[queue]->chain();
            chain.readable(header(type, sector));
            if (!out.empty())
                chain.readable(out);
            if (in != 0)
                chain.writable(in);
            auto pieces = chain.writable(1).post();
            ram.put(pieces.back().address, std::uint8_t{0xee});
            return pieces;
        });
    }
    /// Waits up to five seconds.
    std::optional<VirtqueueDriver::Used> wait_used(unsigned queue = 0) {
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{5};
        for (;;) {
            if (auto used = on_loop([&] { return drivers[queue]->used(); }))
                return used;
            if (std::chrono::steady_clock::now() > deadline)
                return std::nullopt;
            std::this_thread::sleep_for(std::chrono::microseconds{100});
        }
    }
    Answer answer_of(const Pieces& pieces, std::uint32_t length) {
        return on_loop([&] {
            Answer answer{ram.get<std::uint8_t>(pieces.back().address), length, {}};
            if (const auto& data = pieces[pieces.size() - 2]; data.write)
                answer.data = ram.text(data.address, data.length);
            return answer;
        });
    }
    /// One request, start to end.
    Answer request(std::uint32_t type, std::uint64_t sector, std::string_view out, std::uint32_t in,
                   unsigned queue = 0) {
        const auto pieces = post(type, sector, out, in, queue);
        kick(queue);
        const auto used = wait_used(queue);
        return used ? answer_of(pieces, used->length) : Answer{};
    }
    Answer read(std::uint64_t sector, std::uint32_t bytes) { return request(VIRTIO_BLK_T_IN, sector, "", bytes); }
    Answer write(std::uint64_t sector, std::string_view data) { return request(VIRTIO_BLK_T_OUT, sector, data, 0); }
    Answer flush() { return request(VIRTIO_BLK_T_FLUSH, 0, "", 0); }
    static std::string range(std::uint64_t sector, std::uint32_t sectors, std::uint32_t flags = 0) {
        const virtio_blk_discard_write_zeroes raw{sector, sectors, flags};
        return {reinterpret_cast<const char*>(&raw), sizeof raw}; // NOLINT: bytes of a wire struct
    }
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
