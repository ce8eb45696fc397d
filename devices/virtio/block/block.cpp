// SPDX-License-Identifier: Apache-2.0
// Creation, configuration and life of the device. Requests are served in serve.cpp.
#include "devices/virtio/block/block.hpp"

#include <poll.h>

#include <algorithm>
#include <array>

#include "devices/virtio/block/file.hpp"
#include "vmm/base/state.hpp"

namespace inox::devices::virtio {
namespace {

using std::chrono::steady_clock;

/// A vCPU waits at most this long for a reset; afterwards its driver has to read the status again.
constexpr std::chrono::milliseconds longest_settling{50};

/// Waits until one is readable, or for a short time.
void wait_for(std::span<const int> fds) noexcept {
    std::array<pollfd, 2> polled{};
    for (std::size_t i = 0; i < std::min(fds.size(), polled.size()); ++i)
        polled[i] = {fds[i], POLLIN, 0};
    (void)::poll(polled.data(), std::min(fds.size(), polled.size()), 1);
}

} // namespace

Result<std::shared_ptr<Block>> Block::create(BlockOptions options, EventLoop& loop) {
    auto engine = TRY(create_block_engine(options.temporary ? BlockEngineKind::sync : options.engine, options.id));
    return create(std::move(options), loop, std::move(engine));
}

Result<std::shared_ptr<Block>> Block::create(BlockOptions options, EventLoop& loop,
                                             std::unique_ptr<BlockEngine> engine) {
    if (options.queues < 1 || options.queues > BlockOptions::max_queues)
        return inox::fail(Errc::config_value, format("disk '%s' has %u queues", options.id.c_str(), options.queues),
                          format("give 1 to %u", BlockOptions::max_queues));
    auto file = std::make_shared<BlockFile>(TRY(BlockFile::open(options)));
    std::shared_ptr<Block> block{new Block{std::move(options), std::move(file), std::move(engine), loop}};
    TRY_VOID(block->watch_engine());
    return block;
}

Block::Block(BlockOptions options, std::shared_ptr<BlockFile> file, std::unique_ptr<BlockEngine> engine,
             EventLoop& loop)
    : Device{options.id + " (virtio-blk)"}, options_{std::move(options)}, file_{std::move(file)},
      engine_{std::move(engine)}, loop_{loop}, queue_sizes_(options_.queues, queue_size),
      limiter_{options_.limits, steady_clock::now()}, config_{make_block_config(*file_, options_.queues)} {}

// The engine borrows the jobs, so all must be back. Mostly none is out: after a reset, alive_ waits for the last one.
Block::~Block() {
    reset();
    while (in_flight_ != 0) {
        wait_for(engine_->ready_fds());
        run_engine();
    }
}

Result<void> Block::watch_engine() {
    for (const int fd : engine_->ready_fds())
        engine_watches_.push_back(TRY(loop_.watch(fd, [this] { engine_ready(); })));
    return {};
}

bool Block::has_image(const std::string& path) const { return file_->is(path); }

Result<std::shared_ptr<BlockFile>> Block::open_other(BlockOptions options, const std::string& path) {
    static constexpr auto way_out = "add it as another disk with format=raw: this one keeps the format it was given";
    options.path = path;
    return std::make_shared<BlockFile>(TRY(BlockFile::open(options, way_out)));
}

Result<void> Block::lock_image(bool on) {
    if (on)
        return file_->lock(options_.read_only || options_.temporary);
    file_->unlock();
    return {};
}

Result<void> Block::replace(const std::string& path) {
    return replace(path, has_image(path) ? nullptr : TRY(open_other(options_, path)));
}

Result<void> Block::replace(const std::string& path, std::shared_ptr<BlockFile> other) {
    Result<void> result{};
    with_lock([&](bool active) {
        if (other)
            file_ = std::move(other);
        else if (result = file_->refresh_size(); !result)
            return;
        {
            std::lock_guard lock{config_mutex_};
            config_ = make_block_config(*file_, options_.queues);
        }
        if (active)
            config_changed();
    });
    if (result)
        options_.path = path;
    return result;
}

void Block::update_limits(const RateLimits& limits) {
    with_lock([&](bool active) {
        limiter_.update(limits, steady_clock::now());
        throttled_ = false;
        if (active)
            serve(0);
    });
    auto keep = [](auto& kept, const auto& given) {
        if (given)
            kept = given;
    };
    keep(options_.limits.bandwidth, limits.bandwidth);
    keep(options_.limits.ops, limits.ops);
}

std::uint64_t Block::features() const {
    namespace f = block_feature;
    std::uint64_t bits = f::size_max | f::seg_max | f::geometry | f::blk_size | f::topology;
    bits |= options_.read_only ? f::read_only : f::discard | f::write_zeroes;
    if (options_.queues > 1)
        bits |= f::multi_queue;
    if (options_.cache == BlockCache::writeback)
        bits |= f::flush | f::config_wce;
    return bits;
}

void Block::read_config(std::uint64_t offset, std::span<std::byte> data) noexcept {
    BlockConfig copy{};
    {
        std::lock_guard lock{config_mutex_};
        copy = config_;
    }
    copy.writeback = options_.cache != BlockCache::writethrough && writeback_ ? 1 : 0;
    const auto bytes = std::as_bytes(std::span{&copy, 1});
    std::ranges::fill(data, std::byte{0});
    if (offset < bytes.size())
        std::ranges::copy(bytes.subspan(offset).first(std::min(data.size(), bytes.size() - offset)), data.begin());
}

void Block::write_config(std::uint64_t offset, std::span<const std::byte> data) noexcept {
    constexpr std::uint64_t field = offsetof(BlockConfig, writeback);
    if (options_.cache == BlockCache::writeback && offset <= field && field - offset < data.size())
        writeback_ = data[field - offset] != std::byte{0};
}

void Block::on_activate() noexcept {
    // 5.2.5.2: a driver that cannot flush must not start with a write-back cache.
    if (negotiated(block_feature::config_wce) && !negotiated(block_feature::flush))
        writeback_ = false;
}

void Block::on_reset() noexcept {
    abandon(~std::uint64_t{0});
    starved_ = touched_ = 0;
    throttled_ = false;
    writeback_ = true;
    if (in_flight_ != 0)
        alive_ = weak_from_this().lock();
}

void Block::on_reset_queue(unsigned index) noexcept {
    abandon(std::uint64_t{1} << index);
    starved_ &= ~(std::uint64_t{1} << index);
}

std::optional<std::string> Block::unsaveable() const {
    if (options_.temporary)
        return name() + " is temporary: what the guest wrote to it is nowhere but in this process";
    return std::nullopt;
}

/// What the driver was told of the image has to hold for the one that is here now.
void Block::on_state(State& state) {
    std::uint64_t sectors = 0;
    std::uint32_t block = 0;
    {
        std::lock_guard lock{config_mutex_};
        sectors = config_.capacity;
        block = config_.blk_size;
    }
    const std::uint64_t own_sectors = sectors;
    const std::uint32_t own_block = block;
    bool writeback = writeback_;
    state.version(1);
    state.number("sectors", sectors);
    state.number("block_size", block);
    state.flag("writeback", writeback);
    state.part("limits", [this](State& part) { limiter_.state(part, steady_clock::now()); });
    state.check(sectors == own_sectors,
                format("'%s' has %llu sectors now, and had %llu", file_->path().c_str(),
                       static_cast<unsigned long long>(own_sectors), static_cast<unsigned long long>(sectors))
                    .c_str());
    state.check(block == own_block,
                format("'%s' has blocks of %u bytes now, and had %u", file_->path().c_str(), own_block, block).c_str());
    writeback_ = writeback;
}

/// Requests that have begun come to their end, whatever the limits say.
bool Block::on_drain() noexcept {
    serve(0);
    return in_flight_ == 0;
}

void Block::finish_orphans() noexcept {
    run_engine();
    if (in_flight_ != 0)
        return;
    // An idle disk frees its slots, however deep the driver's queues were.
    free_slots_.clear();
    slots_.clear();
}

/// Waits a little, because reads and writes usually end soon; the driver then finds the reset done at once.
void Block::settle() noexcept {
    const auto end = steady_clock::now() + longest_settling;
    for (;;) {
        with_lock([this](bool active) {
            if (!active) // otherwise the loop does it, along with the rings
                finish_orphans();
            if (in_flight_ == 0)
                alive_.reset(); // the caller holds a reference of its own
        });
        if (!resetting() || steady_clock::now() >= end)
            return;
        wait_for(engine_->ready_fds());
    }
}

} // namespace inox::devices::virtio
