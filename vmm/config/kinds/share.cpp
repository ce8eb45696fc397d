// SPDX-License-Identifier: Apache-2.0
// Shared folders: the keys, the option, the rules.
#include "vmm/config/config.hpp"
#include "vmm/config/config_options.hpp"
#include "vmm/config/config_sections.hpp"

namespace inox {
namespace {

using devices::virtio::FsOptions;

FsOptions& share(ConfigFile& file) { return being_read<FsOptions>(file); }

constexpr Field fields[] = {
    {"tag", Need::required, Null::refused,
     [](const JsonValue& value, ConfigFile& file) {
         auto& tag = share(file).tag;
         const auto before = value.problems().size();
         read_plain_text(value, tag);
         if (value.problems().size() == before && (tag.empty() || tag.size() > FsOptions::longest_tag))
             value.report(Errc::config_value, format("a tag of %zu bytes", tag.size()),
                          format("use 1 to %zu: the guest mounts the folder by it", FsOptions::longest_tag));
     }},
    {"socket", Need::required, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { read_socket_path(value, share(file).socket); }},
};

} // namespace

std::span<const Section> Kind<FsOptions>::sections() {
    static const Section all[] = {{.name = section, .fields = fields, .list = true, .begin = begin_device<FsOptions>}};
    return all;
}

CommandOption Kind<FsOptions>::option() {
    return {"--share", "tag=T,socket=S", "a host folder in the guest, served by virtiofsd at this socket",
            "/shares", add_element,      true};
}

void Kind<FsOptions>::check(const Config& config, std::vector<Error>& problems) {
    check_unique(
        devices_of<FsOptions>(config), "/shares", [](const auto& share) { return share.tag; }, problems);
}

} // namespace inox
