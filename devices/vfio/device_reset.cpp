// SPDX-License-Identifier: Apache-2.0
// Reset of a function alone, and of all functions behind its bus.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "devices/vfio/device.hpp"
#include "devices/vfio/kernel.hpp"
#include "devices/vfio/session.hpp"
#include "devices/vfio/sysfs.hpp"
#include "vmm/base/bytes.hpp"

namespace inox::devices::vfio {
namespace {

std::unexpected<Error> failed(int error, std::string what) {
    return std::unexpected{Error{Errc::host_error, std::move(what), {}, {}, -error}};
}

constexpr std::size_t info_header = sizeof(vfio_pci_hot_reset_info);      // argsz, flags, count
constexpr std::size_t dependent_size = sizeof(vfio_pci_dependent_device); // group or device id, segment, bus, devfn
constexpr std::uint32_t most_dependents = 4096;
static_assert(info_header == 12 && dependent_size == 8);

} // namespace

Result<void> Device::reset() {
    if (!can_reset_)
        return fail(Errc::unsupported, name() + " cannot be reset alone");
    const int error = kernel_.reset(fd());
    if (error == -EINVAL || error == -ENOTTY) // the reset was offered when the device was opened
        return fail(Errc::unsupported, name() + " has no reset method any more",
                    "see /sys/bus/pci/devices/" + address().text() + "/reset_method");
    if (error == -EAGAIN)
        return fail(Errc::in_use, name() + " cannot be reset: the host is busy with it");
    if (error < 0)
        return failed(error, "resetting " + name());
    return {};
}

Result<std::vector<std::byte>> Device::ask_reset_peers() const {
    std::vector<std::byte> answer(info_header);
    for (int attempt = 0; attempt < 4; ++attempt) {
        vfio_pci_hot_reset_info info{};
        info.argsz = static_cast<std::uint32_t>(answer.size());
        std::memcpy(answer.data(), &info, info_header);
        const int error = kernel_.hot_reset_info(fd(), answer);
        std::memcpy(&info, answer.data(), info_header);
        if (error == -ENODEV)
            return fail(Errc::not_found,
                        name() + " has no reset method, and " + bus_reset_obstacle(session_.root(), address(), {}));
        if (error == -EPERM)
            return fail(Errc::vfio_group,
                        name() + " has no reset method, and its bus is shared with a device of no IOMMU group");
        if (error < 0 && error != -ENOSPC)
            return failed(error, "asking what a bus reset of " + name() + " reaches");
        if (info.count > most_dependents)
            break;
        const auto needed = info_header + info.count * dependent_size;
        if (error == 0 && needed <= answer.size())
            return answer;
        answer.resize(needed);
    }
    return failed(-E2BIG, "asking what a bus reset of " + name() + " reaches");
}

Result<std::vector<Device::Dependent>> Device::reset_dependents() const {
    const auto answer = TRY(ask_reset_peers());
    vfio_pci_hot_reset_info info{};
    std::memcpy(&info, answer.data(), info_header);
    std::vector<Dependent> found;
    for (std::uint32_t i = 0; i < info.count; ++i) {
        vfio_pci_dependent_device one{};
        std::memcpy(&one, answer.data() + info_header + i * dependent_size, dependent_size);
        const PciAddress address{one.segment, one.bus, static_cast<std::uint8_t>(one.devfn >> 3),
                                 static_cast<std::uint8_t>(one.devfn & 7)};
        // With device files the kernel reports whose a function is; with groups, inox knows which groups it holds.
        const auto group_file = backend() == Backend::iommufd ? std::nullopt : session_.group_file(one.group_id);
        const bool owned = backend() == Backend::iommufd ? (info.flags & uapi::hot_reset_flag_dev_id) != 0 &&
                                                               one.group_id != uapi::devid_not_owned
                                                         : group_file.has_value();
        found.push_back({{address, owned}, group_file.value_or(-1)});
    }
    return found;
}

Result<std::vector<ResetPeer>> Device::reset_peers() const {
    std::vector<ResetPeer> peers;
    for (const auto& one : TRY(reset_dependents()))
        peers.push_back(one.peer);
    return peers;
}

/// The kernel's error is EINVAL, whatever prevents the reset.
std::unexpected<Error> Device::bus_reset_failed(int error, std::span<const Dependent> reached) const {
    const auto what = "the bus of " + name() + " cannot be reset";
    if (error == -EBUSY || error == -EAGAIN)
        return fail(Errc::in_use, what + ": the host is busy with a device behind it");
    if (error != -EINVAL && error != -ENODEV && error != -ENOTTY)
        return failed(error, "resetting the bus of " + name());
    std::vector<PciAddress> addresses;
    for (const auto& one : reached)
        addresses.push_back(one.peer.address);
    return fail(Errc::unsupported, what + ": " + bus_reset_obstacle(session_.root(), address(), addresses),
                "bind every device behind the bus to vfio-pci; `inox host` shows the ways to reset each");
}

Result<void> Device::hot_reset() {
    std::vector<std::int32_t> groups;
    const auto reached = TRY(reset_dependents());
    for (const auto& [peer, group] : reached) {
        if (!peer.owned)
            return fail(Errc::in_use,
                        "a bus reset of " + name() + " would reset " + peer.address.text() + ", which is not ours",
                        "assign " + peer.address.text() + " too, or do without the reset");
        if (group >= 0 && std::ranges::find(groups, group) == groups.end())
            groups.push_back(group);
    }
    constexpr std::size_t header = sizeof(vfio_pci_hot_reset);
    std::vector<std::byte> buffer(header + groups.size() * sizeof(std::int32_t));
    vfio_pci_hot_reset reset{};
    reset.argsz = static_cast<std::uint32_t>(buffer.size());
    reset.count = static_cast<std::uint32_t>(groups.size()); // 0 with iommufd, which knows its devices
    std::memcpy(buffer.data(), &reset, header);
    std::ranges::copy(std::as_bytes(std::span{groups}), buffer.begin() + static_cast<std::ptrdiff_t>(header));
    if (const int error = kernel_.hot_reset(fd(), buffer); error < 0)
        return bus_reset_failed(error, reached);
    return {};
}

} // namespace inox::devices::vfio
