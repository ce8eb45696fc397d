// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/console.hpp"
#include "vmm/machine/device_maker.hpp"
#include "vmm/machine/platform_parts.hpp"

namespace inox {

template <>
Result<OpenedDevice> Maker<ConsoleConfig>::open(const ConsoleConfig& /*console*/, const OpeningContext& context) {
    auto console = TRY(devices::virtio::Console::create(
        {}, context.loop, [peer = context.console](auto bytes) { return peer ? peer->console_output(bytes) : 0; }));
    if (context.console)
        console->on_input_room([peer = context.console] { peer->on_input_room(); });
    return OpenedDevice{std::move(console)};
}

/// Permanent: its other end is this process's terminal or a file that was opened at the start.
template <> Result<NewDevice> Maker<ConsoleConfig>::make(const ConsoleConfig& /*console*/, OpenedDevice opened,
                                                         PlatformParts& parts) {
    parts.console = std::static_pointer_cast<devices::virtio::Console>(opened.virtio);
    return NewDevice{.device = parts.console, .permanent = true};
}

template <> std::size_t Maker<ConsoleConfig>::descriptors(const ConsoleConfig& /*console*/) {
    return usual_descriptors;
}

} // namespace inox
