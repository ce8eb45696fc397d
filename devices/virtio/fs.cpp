// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/fs.hpp"

#include <algorithm>
#include <cstring>

namespace inox::devices::virtio {

std::array<std::byte, 40> fs_config(const FsOptions& options) {
    std::array<std::byte, 40> config{};
    std::memcpy(config.data(), options.tag.data(), std::min(options.tag.size(), FsOptions::longest_tag));
    store_le(std::span{config}.subspan(FsOptions::longest_tag), 1); // one request queue
    return config;
}

Fs::Fs(const FsOptions& options) : Device{options.tag + " (virtio-fs)"}, config_{fs_config(options)} {}

Result<std::shared_ptr<Fs>> Fs::create(const FsOptions& options, EventLoop& loop, const GuestMemory& memory) {
    if (options.tag.empty() || options.tag.size() > FsOptions::longest_tag)
        return fail(Errc::config_value,
                    "the tag of a shared folder has 1 to 36 bytes, not " + std::to_string(options.tag.size()),
                    "the guest mounts it by this name: mount -t virtiofs TAG /mnt");
    if (!memory.shared())
        return fail(Errc::wrong_state,
                    "the daemon of '" + options.tag + "' cannot be given this guest's memory: it is private",
                    "start the guest with a --share already, or with --huge-pages none or 2M");
    // The transport always offers these to the driver, and the daemon serves the rings.
    constexpr std::uint64_t rings = feature::indirect | feature::event_index | feature::version_1;
    std::shared_ptr<Fs> fs{new Fs{options}};
    fs->daemon_ = TRY(VhostUserWorker::create(
        {options.socket, rings, memory,
         [raw = fs.get()](std::uint64_t session, const Error& error) { raw->on_failed(session, error); }}));
    for (unsigned index = 0; index < sizes.size(); ++index) {
        fs->bells_.push_back({TRY(EventFd::create()), TRY(EventFd::create())});
        fs->bells_.back().watch = TRY(loop.watch(fs->bells_.back().call.fd(), [raw = fs.get(), index] {
            raw->bells_[index].call.drain();
            raw->locked([&] { raw->notify(index); });
        }));
    }
    return fs;
}

void Fs::read_config(std::uint64_t offset, std::span<std::byte> data) noexcept {
    store_le(data, 0);
    if (offset < config_.size())
        std::ranges::copy(std::span{config_}.subspan(offset).first(std::min(data.size(), config_.size() - offset)),
                          data.begin());
}

VhostUser::Ring Fs::ring(unsigned index) {
    bells_[index].started = true;
    return {index, queue(index)->layout(), bells_[index].kick.fd(), bells_[index].call.fd()};
}

void Fs::on_activate() noexcept {
    std::vector<VhostUser::Ring> rings;
    for (unsigned index = 0; index < sizes.size(); ++index)
        if (queue(index))
            rings.push_back(ring(index));
    daemon_->start(++session_, negotiated_features(), std::move(rings));
}

void Fs::on_kick(unsigned index) noexcept {
    if (!bells_[index].started && queue(index))
        daemon_->start_ring(session_, ring(index)); // enabled once the driver has set DRIVER_OK
    bells_[index].kick.signal();
}

void Fs::on_reset() noexcept {
    std::vector<unsigned> started;
    for (unsigned index = 0; index < sizes.size(); ++index)
        if (std::exchange(bells_[index].started, false))
            started.push_back(index);
    daemon_->stop(0, std::move(started));
}

void Fs::on_reset_queue(unsigned index) noexcept {
    if (std::exchange(bells_[index].started, false))
        daemon_->stop(session_, {index});
}

void Fs::on_failed(std::uint64_t session, const Error& error) noexcept {
    locked([&] {
        if (session == session_)
            stop_failed(error.message().c_str());
    });
}

} // namespace inox::devices::virtio
