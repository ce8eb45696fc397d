// SPDX-License-Identifier: Apache-2.0
// The kinds of devices that a guest can have: the one list of them. Each room has what it needs to know of a kind in
// its folder kinds/, as a specialisation of one template for all of them: Kind (vmm/config), HostCheck (vmm/host),
// Maker (vmm/machine), Meter (vmm/instance), DeviceView (api/firecracker).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>

#include "vmm/config/kinds/balloon.hpp"
#include "vmm/config/kinds/console.hpp"
#include "vmm/config/kinds/disk.hpp"
#include "vmm/config/kinds/dsa.hpp"
#include "vmm/config/kinds/entropy.hpp"
#include "vmm/config/kinds/iommu.hpp"
#include "vmm/config/kinds/net.hpp"
#include "vmm/config/kinds/share.hpp"
#include "vmm/config/kinds/vfio.hpp"
#include "vmm/config/kinds/vsock.hpp"

namespace inox {

/// Which kind: its place in the list. kind_of<Options> names one.
enum class DeviceKind : std::uint8_t {};

template <class... Options> struct KindList {
    /// The options of one device.
    using Device = std::variant<Options...>;
    static constexpr std::size_t size = sizeof...(Options);
    static constexpr std::array<std::string_view, size> names{Kind<Options>::name...};

    /// Calls work.operator()<Options>() for each kind, in order.
    template <class F> static constexpr void each(F&& work) { (work.template operator()<Options>(), ...); }
    /// The same for one of them.
    template <class F> static constexpr void with(DeviceKind kind, F&& work) {
        std::size_t index = 0;
        ((index++ == static_cast<std::size_t>(kind) ? work.template operator()<Options>() : void()), ...);
    }
    template <class Wanted> static constexpr DeviceKind kind = [] {
        std::size_t index = 0;
        static_cast<void>(((std::is_same_v<Wanted, Options> || (++index, false)) || ...));
        return static_cast<DeviceKind>(index);
    }();
};

/// In the order in which a guest finds them on its bus.
using DeviceKinds = KindList<IommuConfig, DriveConfig, devices::virtio::NetOptions, devices::virtio::VsockOptions,
                             devices::virtio::EntropyOptions, devices::virtio::BalloonOptions, ConsoleConfig,
                             devices::virtio::FsOptions, VfioConfig, DsaConfig>;

/// One device of a configuration; also what can be added to a running machine.
using DeviceConfig = DeviceKinds::Device;

template <class Options> inline constexpr DeviceKind kind_of = DeviceKinds::kind<Options>;

/// "disk", "net", ...: as the command line calls them.
constexpr std::string_view kind_name(DeviceKind kind) { return DeviceKinds::names[static_cast<std::size_t>(kind)]; }
/// A machine has at most one of this kind.
constexpr bool is_single(DeviceKind kind) {
    bool single = false;
    DeviceKinds::with(kind, [&]<class Options>() { single = Kind<Options>::single; });
    return single;
}
constexpr std::span<const std::string_view> all_kind_names() { return DeviceKinds::names; }
std::optional<DeviceKind> parse_kind(std::string_view name);

/// Ids are unique within a kind: clients of Firecracker call a disk and an interface "1" each.
struct DeviceName {
    DeviceKind kind{};
    std::string id{};

    bool operator==(const DeviceName&) const = default;
    /// "disk 'root'"
    [[nodiscard]] std::string text() const;
};
DeviceName device_name(const DeviceConfig& device);

} // namespace inox
