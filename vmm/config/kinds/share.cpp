// SPDX-License-Identifier: Apache-2.0
// Shared folders: the keys, the option, the rules.
#include "vmm/config/config.hpp"
#include "vmm/config/config_options.hpp"
#include "vmm/config/config_sections.hpp"
#include "vmm/config/config_state.hpp"
#include "vmm/config/config_text.hpp"

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
    {"socket", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { read_socket_path(value, share(file).socket); }},
    {"path", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { read_path(value, share(file).path); }},
    {"read_only", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { share(file).read_only = value.boolean().value_or(false); }, "ro"},
};

std::optional<Error> who_serves(const FsOptions& share, const std::string& where) {
    if (share.path.empty() && share.socket.empty())
        return error_at(where, Errc::config_missing_key, "the share " + in_quotes(share.tag) + " names no folder",
                        "add path=FOLDER, or the socket of a daemon that serves one");
    if (!share.path.empty() && !share.socket.empty())
        return error_at(where + "/socket", Errc::config_value,
                        "the share " + in_quotes(share.tag) + " has a path and a socket",
                        "keep the path, and inox serves the folder; or the socket of a daemon that serves one");
    if (share.read_only && !share.socket.empty())
        return error_at(where + "/read_only", Errc::config_value,
                        "the daemon of the share " + in_quotes(share.tag) + " decides what the guest may write",
                        "start the daemon for reading only, or name the folder with path");
    return std::nullopt;
}

} // namespace

std::span<const Section> Kind<FsOptions>::sections() {
    static const Section all[] = {{.name = section, .fields = fields, .list = true, .begin = begin_device<FsOptions>}};
    return all;
}

CommandOption Kind<FsOptions>::option() {
    return {"--share",
            "tag=T,path=DIR[,ro=on]",
            "a host folder in the guest; socket=S: served by a daemon",
            "/shares",
            add_element,
            true};
}

void Kind<FsOptions>::check(const Config& config, std::vector<Error>& problems) {
    const auto shares = devices_of<FsOptions>(config);
    check_unique(
        shares, "/shares", [](const auto& share) { return share.tag; }, problems);
    for (std::size_t i = 0; i < shares.size(); ++i)
        if (auto problem = who_serves(*shares[i], "/shares/" + std::to_string(i)))
            problems.push_back(std::move(*problem));
}

void Kind<FsOptions>::state(State& state, FsOptions& share) {
    state.text("tag", share.tag, FsOptions::longest_tag);
    state.text("path", share.path, most_text);
    state.text("socket", share.socket, most_text);
    state.flag("read_only", share.read_only);
}

} // namespace inox
