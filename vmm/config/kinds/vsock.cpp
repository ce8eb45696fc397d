// SPDX-License-Identifier: Apache-2.0
// The vsock device: the keys, the option.
#include "vmm/config/config.hpp"
#include "vmm/config/config_options.hpp"
#include "vmm/config/config_sections.hpp"
#include "vmm/config/config_state.hpp"

namespace inox {
namespace {

using devices::virtio::VsockOptions;

VsockOptions& vsock(ConfigFile& file) { return being_read<VsockOptions>(file); }

void read_cid(const JsonValue& value, ConfigFile& file) {
    if (const auto cid = value.number({3, 0xfffffffe}, Errc::config_value))
        vsock(file).guest_cid = *cid;
}

constexpr Field fields[] = {
    {"guest_cid", Need::required, Null::refused, read_cid, "cid"},
    {"uds_path", Need::required, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { read_vsock_path(value, vsock(file).uds_path); }, "uds"},
    {"vsock_id", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { vsock(file).id = read_id(value); }, "id"},
};

} // namespace

std::span<const Section> Kind<VsockOptions>::sections() {
    static const Section all[] = {{.name = section, .fields = fields, .begin = begin_device<VsockOptions>}};
    return all;
}

CommandOption Kind<VsockOptions>::option() {
    return {"--vsock", "cid=N,uds=PATH", "stream sockets between host and guest, through this unix socket", "/vsock",
            add_element};
}

void Kind<VsockOptions>::state(State& state, VsockOptions& vsock) {
    state.text("id", vsock.id, most_text);
    state.number("guest_cid", vsock.guest_cid, std::uint64_t{3}, std::uint64_t{0xfffffffe});
    state.text("uds_path", vsock.uds_path, most_text);
}

} // namespace inox
