// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/fs.hpp"

#include <algorithm>
#include <cstring>

namespace devices::virtio {
namespace {

constexpr std::size_t tag_size = Fs::longest_tag;

} // namespace

Fs::Fs(const FsOptions& options, VhostUser daemon, const vmm::GuestMemory& memory)
    : Device{options.tag + " (virtio-fs)"}, memory_{memory}, daemon_{std::move(daemon)}, features_{daemon_.features() &
                                                                                                   0xffffff} {
    std::memcpy(config_.data(), options.tag.data(), options.tag.size());
    vmm::store_le(std::span{config_}.subspan(tag_size), 1); // one request queue
}

vmm::Result<std::shared_ptr<Fs>> Fs::create(const FsOptions& options, vmm::EventLoop& loop,
                                            const vmm::GuestMemory& memory) {
    if (options.tag.empty() || options.tag.size() > tag_size)
        return vmm::fail(vmm::Errc::config_value,
                         "the tag of a shared folder has 1 to 36 bytes, not " + std::to_string(options.tag.size()),
                         "the guest mounts it by this name: mount -t virtiofs TAG /mnt");
    if (!memory.shared())
        return vmm::fail(vmm::Errc::wrong_state,
                         "the daemon of '" + options.tag + "' cannot be given this guest's memory: it is private",
                         "start the guest with a --share already, or with --huge-pages none or 2M");
    auto daemon = TRY(VhostUser::connect(options.socket));
    // The transport always offers these to the driver, and the daemon serves the rings.
    constexpr std::uint64_t rings = feature::indirect | feature::event_index | feature::version_1;
    if ((daemon.features() & rings) != rings)
        return vmm::fail(vmm::Errc::unsupported, "the daemon at '" + options.socket + "' lacks ring features",
                         "use a newer one; it must know indirect descriptors and event indices");
    TRY_VOID(daemon.share_memory(memory));
    std::shared_ptr<Fs> fs{new Fs{options, std::move(daemon), memory}};
    for (unsigned index = 0; index < sizes.size(); ++index) {
        fs->bells_.push_back({TRY(vmm::EventFd::create()), TRY(vmm::EventFd::create())});
        fs->bells_.back().watch = TRY(loop.watch(fs->bells_.back().call.fd(), [raw = fs.get(), index] {
            raw->bells_[index].call.drain();
            raw->locked([&] { raw->notify(index); });
        }));
    }
    return fs;
}

void Fs::read_config(std::uint64_t offset, std::span<std::byte> data) noexcept {
    vmm::store_le(data, 0);
    if (offset < config_.size())
        std::ranges::copy(std::span{config_}.subspan(offset).first(std::min(data.size(), config_.size() - offset)),
                          data.begin());
}

void Fs::on_activate() noexcept {
    if (auto set = daemon_.set_features(negotiated_features() & daemon_.features()); !set)
        return stop_broken(set.error().message().c_str());
    for (unsigned index = 0; index < sizes.size(); ++index)
        if (queue(index))
            start(index);
}

void Fs::start(unsigned index) noexcept {
    const auto started =
        daemon_.start_ring({index, queue(index)->layout(), bells_[index].kick, bells_[index].call}, memory_);
    if (!started)
        return stop_broken(started.error().message().c_str());
    bells_[index].started = true;
}

void Fs::on_kick(unsigned index) noexcept {
    if (!bells_[index].started && queue(index))
        start(index); // enabled after DRIVER_OK
    bells_[index].kick.signal();
}

void Fs::stop(unsigned index) noexcept {
    if (!std::exchange(bells_[index].started, false))
        return;
    if (auto stopped = daemon_.stop_ring(index); !stopped)
        vmm::log::write(vmm::log::Level::error, "%s: %s", name().c_str(), stopped.error().message().c_str());
}

void Fs::on_reset() noexcept {
    for (unsigned index = 0; index < sizes.size(); ++index)
        stop(index);
}

void Fs::on_reset_queue(unsigned index) noexcept { stop(index); }

} // namespace devices::virtio
