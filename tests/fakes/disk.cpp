// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/disk.hpp"

#include <chrono>

namespace inox::fakes {

TempImage::TempImage(std::uint64_t size) {
    fd_ = UniqueFd{::mkstemp(path_.data())};
    for (std::uint64_t at = 0; at + 512 <= size && at < MiB; at += 512) {
        const std::uint64_t sector = at / 512;
        (void)!::pwrite(fd_.get(), &sector, sizeof sector, static_cast<off_t>(at));
    }
    resize(size);
}

std::string TempImage::bytes(std::uint64_t offset, std::size_t size) const {
    std::string out(size, '?');
    const auto got = ::pread(fd_.get(), out.data(), size, static_cast<off_t>(offset));
    out.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
    return out;
}

std::uint64_t TempImage::allocated() const {
    struct stat status {};
    (void)::fstat(fd_.get(), &status);
    return static_cast<std::uint64_t>(status.st_blocks) * 512;
}

Disk::Disk(devices::virtio::BlockOptions options, std::uint64_t size,
           std::unique_ptr<devices::virtio::BlockEngine> engine)
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

Disk::~Disk() {
    loop.call([this] { block.reset(); }); // the last reference
    loop.stop();
}

void Disk::activate(std::uint64_t without, std::uint64_t with) {
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

void Disk::kick(unsigned queue) {
    on_loop([&] { block->kick(queue); });
}

std::string Disk::header(std::uint32_t type, std::uint64_t sector) {
    const virtio_blk_outhdr raw{type, 0, sector};
    return {reinterpret_cast<const char*>(&raw), sizeof raw}; // NOLINT: bytes of a wire struct
}

Disk::Pieces Disk::post(std::uint32_t type, std::uint64_t sector, std::string_view out, std::uint32_t in,
                        unsigned queue) {
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

std::optional<VirtqueueDriver::Used> Disk::wait_used(unsigned queue) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{5};
    for (;;) {
        if (auto used = on_loop([&] { return drivers[queue]->used(); }))
            return used;
        if (std::chrono::steady_clock::now() > deadline)
            return std::nullopt;
        std::this_thread::sleep_for(std::chrono::microseconds{100});
    }
}

Answer Disk::answer_of(const Pieces& pieces, std::uint32_t length) {
    return on_loop([&] {
        Answer answer{ram.get<std::uint8_t>(pieces.back().address), length, {}};
        if (const auto& data = pieces[pieces.size() - 2]; data.write)
            answer.data = ram.text(data.address, data.length);
        return answer;
    });
}

Answer Disk::request(std::uint32_t type, std::uint64_t sector, std::string_view out, std::uint32_t in, unsigned queue) {
    const auto pieces = post(type, sector, out, in, queue);
    kick(queue);
    const auto used = wait_used(queue);
    return used ? answer_of(pieces, used->length) : Answer{};
}

std::string Disk::range(std::uint64_t sector, std::uint32_t sectors, std::uint32_t flags) {
    const virtio_blk_discard_write_zeroes raw{sector, sectors, flags};
    return {reinterpret_cast<const char*>(&raw), sizeof raw}; // NOLINT: bytes of a wire struct
}

} // namespace inox::fakes
