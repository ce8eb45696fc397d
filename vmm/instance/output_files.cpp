// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/output_files.hpp"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <string>
#include <sys/stat.h>
#include <vector>

#include "vmm/config/config_text.hpp"

namespace inox {
namespace {

/// Where open(2) would make a file: symbolic links that lead nowhere are followed, too.
std::string whole_path(const std::string& path) {
    static constexpr int most_links = 40; // as the kernel
    std::error_code error;
    auto whole = std::filesystem::weakly_canonical(path, error);
    if (error)
        return path;
    for (int links = 0; links < most_links; ++links) {
        const auto target = std::filesystem::read_symlink(whole, error);
        if (error)
            break; // no link
        const auto next = std::filesystem::weakly_canonical(whole.parent_path() / target, error);
        if (error)
            break;
        whole = next;
    }
    return whole.string();
}

/// The file that a path names at present. Two paths name the same file when these are equal.
struct Identity {
    dev_t device{};
    ino_t number{};
    std::string path{}; ///< only for a file that does not exist yet
    bool operator==(const Identity&) const = default;
};

/// nullopt: the path names nothing that could be lost.
std::optional<Identity> identity_of(const std::string& path) {
    struct stat status {};
    if (path.empty())
        return std::nullopt;
    if (::stat(path.c_str(), &status) == 0) {
        if (S_ISBLK(status.st_mode))
            return Identity{status.st_rdev, 0, {}};
        const bool can_be_lost = S_ISREG(status.st_mode) || S_ISSOCK(status.st_mode);
        return can_be_lost ? std::optional{Identity{status.st_dev, status.st_ino, {}}} : std::nullopt;
    }
    return Identity{0, 0, whole_path(path)};
}

/// What a run does with a path.
enum class Act : std::uint8_t {
    read,
    connect,
    listen,  ///< makes a socket
    append,  ///< the contents stay, and text is appended
    replace, ///< the contents are replaced
};

bool is_output(Act act) { return act == Act::append || act == Act::replace; }
bool is_socket(Act act) { return act == Act::connect || act == Act::listen; }

/// Whether a file that is used for `before` can also be used for `after`. Whoever makes a socket refuses a file that
/// exists.
bool together(Act before, Act after) {
    if (is_output(after))
        return before == Act::append && after == Act::append;
    return after == Act::read || !is_socket(before) || (before == Act::connect && after == Act::connect);
}

struct Claim {
    std::string path;
    std::string where;
    Act act;
    const char* what; ///< in the sentence "'x' is ..."
};

/// In the order of a start. Of two that exclude each other, the later one is at fault.
std::vector<Claim> claims_of(const ConfigFile& file) {
    std::vector<Claim> all{
        {file.api.socket, "/inox/api_sock", Act::listen, "the control API's socket"},
        {file.config.boot.kernel, "", Act::read, "the kernel, which writing would destroy"},
        {file.config.boot.initrd, "", Act::read, "the initrd, which writing would destroy"},
    };
    if (file.run.gdb)
        all.push_back({file.run.gdb->socket, "/inox/gdb", Act::listen, "the socket for GDB"});
    std::vector<Claim> outputs{
        {file.log.path, "/logger/log_path", Act::append, nullptr},
        {file.run.boot_timeline, "/inox/boot_timeline", Act::replace, nullptr},
        {file.run.dump_on_panic, "/inox/dump_on_panic", Act::replace, nullptr},
        {file.run.result, "/inox/result", Act::replace, nullptr},
        {file.run.exits, "/inox/exits", Act::replace, nullptr},
        {file.metrics ? file.metrics->path : std::string{}, "/metrics/metrics_path", Act::append, nullptr},
        {file.serial.path, "/serial/serial_out_path", Act::append, nullptr},
        {file.run.serial_log, "/inox/serial_log", Act::replace, nullptr},
    };
    for (const auto& [device, where] : placed_devices(file.config))
        if (const auto* share = std::get_if<devices::virtio::FsOptions>(device))
            all.push_back({share->socket, where, Act::connect, "the socket of a device"}); // another process's
        else if (const auto* net = std::get_if<devices::virtio::NetOptions>(device))
            all.push_back({net->socket, where, Act::connect, "the socket of a device"});
    for (const auto& [one, where] : used_paths(file.config)) {
        std::string path{one.path};
        switch (one.use) {
        case UsedPath::Use::image:
            all.push_back({std::move(path), where, Act::read, "a disk's image, which writing would destroy"});
            break;
        case UsedPath::Use::socket:
            all.push_back({std::move(path), where, Act::listen, "the socket of a device"});
            break;
        case UsedPath::Use::output:
            outputs.push_back({std::move(path), where, Act::append, nullptr});
            break;
        }
    }
    for (auto& output : outputs) {
        output.what = "the file of another output";
        all.push_back(std::move(output));
    }
    std::erase_if(all, [](const Claim& one) { return one.path.empty(); });
    return all;
}

std::unexpected<Error> in_the_way(const Claim& before, const Claim& after) {
    const std::string what = in_quotes(after.path) + " is " + before.what;
    if (is_output(after.act))
        return fail_at(after.where, Errc::output_unwritable, what, "name a file of its own");
    return fail_at(after.where, Errc::config_value, what + ", too", "give each socket a path of its own");
}

} // namespace

Result<void> check_outputs_apart(const ConfigFile& file) {
    const auto claims = claims_of(file);
    if (std::ranges::all_of(claims, [](const Claim& one) { return one.act == Act::read; }))
        return {}; // a start without outputs looks at no file for this check
    std::vector<std::optional<Identity>> identities;
    for (std::size_t i = 0; i < claims.size(); ++i) {
        identities.push_back(identity_of(claims[i].path));
        if (claims[i].act == Act::read && identities[i] && !identities[i]->path.empty())
            identities[i].reset(); // a missing file is reported by its reader
        for (std::size_t before = 0; before < i && identities[i]; ++before)
            if (identities[before] == identities[i] && !together(claims[before].act, claims[i].act))
                return in_the_way(claims[before], claims[i]);
    }
    return {};
}

} // namespace inox
