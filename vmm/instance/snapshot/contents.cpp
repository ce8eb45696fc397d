// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/snapshot/contents.hpp"

#include <algorithm>
#include <fcntl.h>

#include "vmm/base/open_hint.hpp"
#include "vmm/config/config_state.hpp"
#include "vmm/config/config_text.hpp"
#include "vmm/confine/allow_list.hpp"
#include "vmm/memory/layout.hpp"
#include "vmm/snapshot/state_file.hpp"

namespace inox {
namespace {

using devices::virtio::FsOptions;
using devices::virtio::NetOptions;
using devices::virtio::VsockOptions;

Result<UniqueFd> open_part(const std::string& path, const char* what) {
    auto file = open_file(path, O_RDONLY | O_NONBLOCK | O_NOCTTY, Errc::snapshot_missing);
    if (!file) {
        file.error().what = std::string{"cannot open the snapshot's "} + what + " " + path;
        file.error().hint = open_hint(file.error().sys_errno, "name a folder that `inox ctl snapshot` has made");
    }
    return file;
}

/// Calls it with each text of the device that names something of the host: `path` for a file or a socket.
template <class F> void each_name(const DeviceConfig& device, F&& call) {
    enum Kind : bool { word, path };
    const auto of = [&](Kind kind, const std::string& name, const char* key) {
        if (!name.empty())
            call(kind == path, name, key);
    };
    if (const auto* drive = std::get_if<DriveConfig>(&device))
        of(path, drive->block.path, "path");
    if (const auto* net = std::get_if<NetOptions>(&device)) {
        of(word, net->tap, "tap");
        of(path, net->socket, "socket");
    }
    if (const auto* vsock = std::get_if<VsockOptions>(&device))
        of(path, vsock->uds_path, "uds");
    if (const auto* console = std::get_if<ConsoleConfig>(&device))
        of(path, console->path, "path");
    if (const auto* share = std::get_if<FsOptions>(&device)) {
        of(path, share->path, "path");
        of(path, share->socket, "socket");
    }
    if (const auto* dsa = std::get_if<DsaConfig>(&device))
        of(path, dsa->forward, "forward");
}

bool lies_beneath(const std::string& path, const AllowedPath& allowed) {
    const auto whole = confine::AllowList::normal(path, "/");
    const auto top = confine::AllowList::normal(allowed.path, "/");
    return top == "/" || whole == top || whole.starts_with(top + "/");
}

bool is_read_only(const DeviceConfig& device) {
    if (const auto* drive = std::get_if<DriveConfig>(&device))
        return drive->block.read_only || drive->block.temporary;
    const auto* share = std::get_if<FsOptions>(&device);
    return share != nullptr && share->read_only;
}

/// "--disk id=root,path=/srv/root.img"
std::string option_for(const DeviceConfig& device, const std::string& name, const char* key) {
    const auto id = device_name(device);
    const std::string option = "--" + std::string{kind_name(id.kind)} + " ";
    if (std::holds_alternative<ConsoleConfig>(device))
        return option + name;
    if (const auto* vsock = std::get_if<VsockOptions>(&device))
        return option + format("cid=%llu,uds=", static_cast<unsigned long long>(vsock->guest_cid)) + name;
    return option + "id=" + id.id + "," + key + "=" + name;
}

} // namespace

SnapshotFiles SnapshotFiles::in(const std::string& folder) {
    const std::string base = folder.ends_with('/') ? folder : folder + "/";
    return {base + "state", base + "memory", folder};
}

void SnapshotOrigin::state(State& state) {
    state.version(1);
    state.text("inox", version, most_text);
    state.number("saved_at", saved_at);
}

void memory_state(State& state, snapshot::MemoryContents& contents, snapshot::MemoryId& id) {
    constexpr std::size_t most_pieces = layout::max_ram / snapshot::piece_size;
    const auto version = state.version(contents.diff || state.restores() ? 2 : 1); // older ones restore what is whole
    state.bytes("id", id);
    state.number("size", contents.size, layout::min_ram, layout::max_ram);
    state.number("stored", contents.stored, std::uint64_t{0}, layout::max_ram);
    state.list("sums", contents.sums, most_pieces,
               [](State& inner, std::uint64_t& sum) { inner.number("xxh64", sum); });
    if (version < 2)
        return;
    contents.diff = true;
    state.bytes("base", contents.base);
    state.list("changed", contents.changed, most_pieces, [](State& inner, snapshot::ChangedPiece& piece) {
        inner.number("piece", piece.number, std::uint64_t{0}, std::uint64_t{most_pieces - 1});
        inner.bytes("pages", piece.pages);
    });
    state.check(std::ranges::is_sorted(contents.changed, std::ranges::less_equal{}, &snapshot::ChangedPiece::number),
                "changed pages that are not in order");
}

namespace {

/// What a merge gives the name of the state when the memory has its name.
constexpr const char* merged = ".merged";

Result<SavedMachine> open_parts(const SnapshotFiles& files) {
    SavedMachine saved;
    const auto state = TRY(open_part(files.state, "state"));
    const auto parts =
        std::make_shared<const snapshot::Parts>(TRY(snapshot::read_state(state.get(), files.state.c_str())));
    saved.parts = parts;
    TRY_VOID(parts->restore("origin", [&](State& one) { saved.origin.state(one); }));
    TRY_VOID(parts->restore("config", [&](State& one) { config_state(one, saved.config); }));
    TRY_VOID(parts->restore("mmds", [&](State& one) { mmds_state(one, saved.mmds); }));
    TRY_VOID(parts->restore("memory", [&](State& one) { memory_state(one, saved.memory, saved.id); }));
    if (saved.memory.size != saved.config.machine.memory)
        return fail(Errc::snapshot_invalid, "the snapshot's memory is not as large as its machine's");
    if (files.memory.empty())
        return saved;
    saved.image = TRY(open_part(files.memory, "memory"));
    TRY_VOID(snapshot::check_memory(saved.image.get(), saved.memory.size, saved.id, files.memory.c_str()));
    // Who writes a Diff over a memory file asks for this lock. A file system without locks has none to ask for, either.
    struct flock lock {};
    lock.l_type = F_RDLCK;
    static_cast<void>(::fcntl(saved.image.get(), F_OFD_SETLK, &lock)); // NOLINT(*-vararg)
    return saved;
}

} // namespace

Result<SavedMachine> open_snapshot(const SnapshotFiles& files, Whole whole) {
    auto saved = open_parts(files);
    if (!saved && saved.error().code == Errc::snapshot_invalid) { // a merge was killed between its two renames
        auto files_of_merge = files;
        files_of_merge.state += merged;
        if (auto other = open_parts(files_of_merge))
            saved = std::move(other);
    }
    if (saved && saved->memory.diff && whole == Whole::needed)
        return fail(Errc::snapshot_mismatch,
                    "this is a Diff: it has only the memory that changed since another snapshot",
                    "merge it first: inox snapshot merge BASE DIFF");
    return saved;
}

Result<void> verify_snapshot(const SnapshotFiles& files) {
    const auto saved = TRY(open_snapshot(files, Whole::unneeded));
    if (saved.memory.sums.empty())
        return fail(Errc::unsupported, "the memory of this snapshot was merged by others: it has no checksums",
                    "restore it and save it again");
    const auto nothing = [](std::uint64_t, std::span<const std::byte>) { return Result<void>{}; };
    const auto found = TRY(saved.memory.diff ? snapshot::read_changed(saved.image.get(), saved.memory, nothing)
                                             : snapshot::read_sums(saved.image.get(), saved.memory.size));
    for (std::size_t i = 0; i < found.sums.size(); ++i)
        if (i >= saved.memory.sums.size() || found.sums[i] != saved.memory.sums[i])
            return fail(Errc::snapshot_invalid,
                        format("the snapshot's memory is damaged between %llu MiB and %llu MiB: %s",
                               static_cast<unsigned long long>(i * snapshot::piece_size / MiB),
                               static_cast<unsigned long long>((i + 1) * snapshot::piece_size / MiB),
                               files.memory.c_str()),
                        "take another copy of it, or save the guest again");
    return {};
}

Result<void> merge_snapshots(const SnapshotFiles& base, const SnapshotFiles& diff) {
    TRY_VOID(verify_snapshot(base));
    const auto under = TRY(open_snapshot(base));
    const auto over = TRY(open_snapshot(diff, Whole::unneeded));
    if (!over.memory.diff)
        return fail(Errc::snapshot_mismatch, "the second snapshot is whole, and no Diff: " + diff.folder,
                    "the order is BASE DIFF");
    if (over.memory.base != under.id || over.memory.size != under.memory.size)
        return fail(Errc::snapshot_mismatch, "the Diff is based on another snapshot than " + base.folder,
                    "merge a chain in the order in which it was saved");
    const auto create = [](const std::string& path) -> Result<UniqueFd> {
        auto file = open_file(path, O_RDWR | O_CREAT | O_TRUNC, Errc::output_unwritable, 0600);
        if (!file)
            file.error().what = "cannot write " + path;
        return file;
    };
    const auto temporary = base.memory + ".partial";
    const auto next = base.state + merged;
    const auto write = [&]() -> Result<void> {
        const auto memory = TRY(create(temporary));
        auto contents = TRY(snapshot::merge_memory(under.image.get(), over.image.get(), over.memory, memory.get()));
        auto parts = *over.parts;
        auto id = over.id;
        parts.save("memory", [&](State& one) { memory_state(one, contents, id); });
        const auto state = TRY(create(next));
        TRY_VOID(write_all(state.get(), snapshot::encode(parts.value())));
        for (const auto* file : {&memory, &state})
            if (::fsync(file->get()) != 0)
                return fail_errno(Errc::output_unwritable, "cannot write the merged snapshot", "is the disk full?");
        return {};
    };
    if (auto written = write(); !written) {
        ::unlink(temporary.c_str());
        ::unlink(next.c_str());
        return written;
    }
    // Between these two the state is found under its other name.
    if (::rename(temporary.c_str(), base.memory.c_str()) != 0 || ::rename(next.c_str(), base.state.c_str()) != 0)
        return fail_errno(Errc::output_unwritable, "cannot rename the merged snapshot in " + base.folder);
    return {};
}

void make_paths_absolute(Config& config, const std::string& folder) {
    const auto whole = [&](std::string& path) {
        if (!path.starts_with("fd:")) // a descriptor
            path = path_below(folder, std::move(path));
    };
    whole(config.boot.kernel);
    whole(config.boot.initrd);
    for (auto& device : config.devices) {
        if (auto* drive = std::get_if<DriveConfig>(&device))
            whole(drive->block.path);
        if (auto* net = std::get_if<NetOptions>(&device))
            whole(net->socket);
        if (auto* vsock = std::get_if<VsockOptions>(&device))
            whole(vsock->uds_path);
        if (auto* console = std::get_if<ConsoleConfig>(&device))
            whole(console->path);
        if (auto* share = std::get_if<FsOptions>(&device)) {
            whole(share->path);
            whole(share->socket);
        }
        if (auto* dsa = std::get_if<DsaConfig>(&device))
            whole(dsa->forward);
    }
}

Result<void> use_names(Config& saved, const Config& given) {
    for (const auto& device : given.devices) {
        const auto name = device_name(device);
        auto* const target = find_device(saved, name);
        if (target == nullptr)
            return fail_at("--" + std::string{kind_name(name.kind)}, Errc::snapshot_mismatch,
                           "the snapshot has no " + name.text(), "`inox snapshot info` lists what it has");
        if (const auto* drive = std::get_if<DriveConfig>(&device)) {
            std::get<DriveConfig>(*target).block.path = drive->block.path;
        } else if (const auto* net = std::get_if<NetOptions>(&device)) {
            auto& out = std::get<NetOptions>(*target);
            out.tap = net->tap;
            out.user = net->user;
            out.socket = net->socket;
            out.host = net->host;
            out.dns = net->dns;
            out.forwards = net->forwards;
        } else if (const auto* vsock = std::get_if<VsockOptions>(&device)) {
            std::get<VsockOptions>(*target).uds_path = vsock->uds_path;
            std::get<VsockOptions>(*target).guest_cid = vsock->guest_cid;
        } else if (const auto* console = std::get_if<ConsoleConfig>(&device)) {
            std::get<ConsoleConfig>(*target).path = console->path;
        } else if (const auto* share = std::get_if<FsOptions>(&device)) {
            std::get<FsOptions>(*target).path = share->path;
            std::get<FsOptions>(*target).socket = share->socket;
        }
    }
    return {};
}

Result<void> check_names(const Config& saved, const Config& given, const std::vector<AllowedPath>& allow) {
    for (const auto& device : saved.devices) {
        const auto name = device_name(device);
        const bool named =
            std::ranges::any_of(given.devices, [&](const auto& one) { return device_name(one) == name; });
        Result<void> good{};
        if (!named)
            each_name(device, [&](bool is_path, const std::string& what, const char* key) {
                const bool covered = is_path && std::ranges::any_of(allow, [&](const AllowedPath& one) {
                                         return lies_beneath(what, one) && (!one.read_only || is_read_only(device));
                                     });
                if (!covered && good)
                    good = fail_at("--from", Errc::not_allowed,
                                   "the snapshot's " + name.text() + " is " + in_quotes(what) +
                                       ", which nobody has named here",
                                   "add " + option_for(device, what, key) +
                                       (is_path ? ", or --allow with a folder that it lies in" : ""));
            });
        TRY_VOID(good);
    }
    return {};
}

bool lies_beneath(const std::string& path, const std::vector<AllowedPath>& allow, bool writes) {
    return std::ranges::any_of(
        allow, [&](const AllowedPath& one) { return lies_beneath(path, one) && (!one.read_only || !writes); });
}

Result<void> check_beneath(const Config& named, const Config& known, const std::vector<AllowedPath>& allow,
                           const std::vector<std::string>& passed) {
    for (const auto& device : named.devices) {
        Result<void> good{};
        each_name(device, [&](bool is_path, const std::string& what, const char* key) {
            bool covered =
                is_path ? lies_beneath(what, allow, !is_read_only(device)) : lies_beneath("/dev/net/tun", allow, true);
            covered |= is_path && std::ranges::find(passed, what) != passed.end();
            for (const auto& other : known.devices)
                each_name(other, [&](bool other_is_path, const std::string& same, const char* /*key*/) {
                    covered |= other_is_path == is_path && same == what && other.index() == device.index();
                });
            if (!covered && good)
                good = fail(Errc::not_allowed,
                            "the " + std::string{key} + " of " + device_name(device).text() + " is " + in_quotes(what) +
                                ", which this template may not use",
                            is_path ? "start the template with --allow and a folder that it lies in"
                                    : "start the template with --net " + what + ", or with --allow /dev/net/tun");
        });
        TRY_VOID(good);
    }
    return {};
}

} // namespace inox
