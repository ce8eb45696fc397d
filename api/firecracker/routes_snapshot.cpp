// SPDX-License-Identifier: Apache-2.0
// Snapshots: Firecracker's two operations, and inox's own.
#include <algorithm>
#include <array>

#include "api/query.hpp"
#include "api/routes_paths.hpp"
#include "api/routes_reply.hpp"
#include "vmm/instance/snapshot/contents.hpp"

namespace inox::api {
namespace {

using devices::virtio::NetOptions;
using devices::virtio::VsockOptions;

// Bodies

/// An object's members; reports what it is not.
class Members {
public:
    Members(const JsonValue& object, std::initializer_list<std::string_view> known) : object_{object} {
        if (!object.json().is_object()) {
            object.report_type(JsonType::object);
            return;
        }
        for (const auto& [key, value] : object.json().items())
            if (std::ranges::find(known, key) == known.end())
                object.member(key, value).report_unknown(key, known);
    }
    [[nodiscard]] bool has(const std::string& key) const {
        return object_.json().is_object() && object_.json().contains(key) && !object_.json().at(key).is_null();
    }
    [[nodiscard]] JsonValue at(const std::string& key) const { return object_.member(key, object_.json().at(key)); }
    [[nodiscard]] std::string text(std::string_view key, bool required = true) const {
        if (const std::string name{key}; has(name))
            return at(name).text().value_or("");
        if (required && object_.json().is_object())
            object_.report_missing(key);
        return {};
    }
    [[nodiscard]] bool flag(const std::string& key) const { return has(key) && at(key).boolean().value_or(false); }

private:
    const JsonValue& object_;
};

struct Load {
    SnapshotFiles files{};
    bool resume{false};
    bool realtime{false};
    bool deprecated{false};
    std::string page_server{}; ///< in place of the memory file
    bool tracked{false};
    std::vector<std::pair<std::string, std::string>> taps{}; ///< id, tap
    std::string vsock{};
    std::optional<HugePages> huge_pages{};
    bool huge_from_file{false};
};

void read_overrides(const Members& members, Load& out) {
    if (members.has("network_overrides")) {
        const auto list = members.at("network_overrides");
        if (!list.json().is_array())
            return list.report_type(JsonType::array);
        for (std::size_t i = 0; i < list.json().size(); ++i) {
            const auto value = list.member(std::to_string(i), list.json()[i]);
            if (!value.json().is_object())
                return value.report_type(JsonType::object);
            const auto text = [&](const char* key) {
                if (!value.json().contains(key)) {
                    value.report_missing(key);
                    return std::string{};
                }
                return value.member(key, value.json().at(key)).text().value_or("");
            };
            auto id = text("iface_id");
            out.taps.emplace_back(std::move(id), text("host_dev_name"));
        }
    }
    if (members.has("vsock_override")) {
        const auto value = members.at("vsock_override");
        const Members inner{value, {"uds_path"}};
        out.vsock = inner.text("uds_path");
    }
}

void read_pages(const Members& members, Load& out) {
    static constexpr std::string_view names[] = {"Snapshot", "None", "Transparent", "2M"};
    if (!members.has("huge_pages"))
        return;
    const auto index = members.at("huge_pages").one_of(names).value_or(0);
    if (index != 0)
        out.huge_pages = static_cast<HugePages>(index - 1);
    out.huge_from_file = out.huge_pages == HugePages::two_mib && out.page_server.empty();
}

/// What is wrong with the two ways to name it together.
std::optional<Response> read_backend(const Members& members, Load& out) {
    const bool file = members.has("mem_file_path");
    const bool backend = members.has("mem_backend");
    if (file == backend)
        return refusal(Errc::config_value,
                       file ? "too many fields: either `mem_backend` or `mem_file_path` exclusively is required."
                            : "missing field: either `mem_backend` or `mem_file_path` is required",
                       "send mem_backend with backend_type File and backend_path");
    out.deprecated |= file;
    if (file)
        out.files.memory = members.text("mem_file_path");
    if (!backend)
        return std::nullopt;
    static constexpr std::string_view types[] = {"File", "Uffd"};
    const auto value = members.at("mem_backend");
    const Members inner{value, {"backend_path", "backend_type"}};
    const auto path = inner.text("backend_path");
    if (inner.has("backend_type"))
        (inner.at("backend_type").one_of(types).value_or(0) == 1 ? out.page_server : out.files.memory) = path;
    else if (value.json().is_object())
        value.report_missing("backend_type");
    return std::nullopt;
}

// Words

/// Firecracker's chain of causes, in front of ours.
Error load_words(Error error) {
    std::string reason = error.sys_errno != 0 ? firecracker::os_error(error) : error.what;
    const bool memory = error.what.contains("memory");
    if (error.code == Errc::snapshot_missing && !memory)
        error.what = "Failed to get snapshot state from file: Failed to open snapshot file: " + reason;
    else if (error.code == Errc::snapshot_missing || (error.code == Errc::snapshot_invalid && memory))
        error.what =
            "Failed to load guest memory: Error creating guest memory from file: Failed to load guest memory: " +
            reason;
    else if (error.code == Errc::snapshot_invalid)
        error.what = "Failed to get snapshot state from file: " + reason;
    else if (error.code == Errc::page_server)
        error.what =
            "Failed to load guest memory: Error creating guest memory from uffd: Failed to connect to UDS Unix "
            "stream: " +
            reason;
    else if (error.code == Errc::not_found)
        return error;
    else
        error.what = "Failed to build microVM from snapshot: " + error.what;
    error.what = "Failed to restore from snapshot: " + error.what;
    error.sys_errno = 0;
    return error;
}

bool has_boot_resources(const Config& config) {
    const MachineConfig fresh;
    const auto& machine = config.machine;
    return !config.boot.kernel.empty() || !config.devices.empty() || !machine.cpuid.empty() ||
           machine.cpus != fresh.cpus || machine.memory != fresh.memory || machine.smt != fresh.smt;
}

Result<void> use_overrides(Config& config, const Load& load) {
    for (const auto& [id, tap] : load.taps) {
        auto* const net = find_device<NetOptions>(config, id);
        if (net == nullptr)
            return fail(Errc::not_found, "Failed to restore from snapshot: Unknown Network Device.",
                        "the snapshot has no interface '" + id + "'");
        net->tap = tap;
        net->user = false;
        net->socket.clear();
    }
    if (!load.vsock.empty()) {
        auto* const vsock = device_of<VsockOptions>(config);
        if (vsock == nullptr)
            return fail(Errc::not_found, "Failed to restore from snapshot: Unknown Vsock Device.",
                        "the snapshot has no vsock device");
        vsock->uds_path = load.vsock;
    }
    config.machine.track_dirty_pages = load.tracked;
    if (load.huge_pages)
        config.machine.huge_pages = *load.huge_pages;
    return {};
}

Result<void> prepare_load(Instance& instance, const Load& load) {
    auto saved = TRY(open_snapshot(load.files));
    TRY_VOID(use_overrides(saved.config, load));
    TRY_VOID(instance.configure([&](ConfigFile& file) {
        file.config = std::move(saved.config);
        if (!file.mmds)
            file.mmds = std::move(saved.mmds);
    }));
    instance.use_snapshot({.parts = std::move(saved.parts),
                           .image = std::move(saved.image),
                           .clock = load.realtime ? RestoredClock::real_time : RestoredClock::goes_on,
                           .page_server = load.page_server,
                           .memory_id = saved.id},
                          load.resume ? Machine::Begin::running : Machine::Begin::paused);
    return {};
}

constexpr std::string_view load_prefix = "Load snapshot error: ";
constexpr std::string_view create_prefix = "Create snapshot error: ";

} // namespace

Prepared put_snapshot_load(Call& call) {
    auto json = read_json(call.request.body);
    const JsonValue whole{json.root, "", json.problems};
    Load load;
    std::optional<Response> backend_problem;
    if (json.problems.empty()) {
        const Members members{whole,
                              {"snapshot_path", "mem_backend", "mem_file_path", "track_dirty_pages",
                               "enable_diff_snapshots", "resume_vm", "network_overrides", "vsock_override",
                               "clock_realtime", "huge_pages"}};
        load.files.state = members.text("snapshot_path");
        backend_problem = read_backend(members, load);
        load.tracked = members.flag("track_dirty_pages") || members.flag("enable_diff_snapshots");
        load.deprecated |= members.has("enable_diff_snapshots");
        load.resume = members.flag("resume_vm");
        load.realtime = members.flag("clock_realtime");
        read_overrides(members, load);
        read_pages(members, load);
    }
    if (!json.problems.empty())
        return body_refusal(json.problems.front(), {json.root, call.request.body});
    if (backend_problem)
        return *backend_problem;
    if (load.huge_from_file)
        return refusal(Errc::config_value,
                       std::string{load_prefix} + "Cannot restore hugetlbfs backed snapshot by mapping the memory "
                                                  "file. Please use uffd.",
                       "use Transparent, or leave out huge_pages");
    return Action{[load = std::move(load)](Services& services, const std::shared_ptr<Exchange>& exchange) {
        auto& instance = services.instance;
        if (has_boot_resources(instance.file().config))
            return exchange->answer(
                refusal(Errc::wrong_state,
                        std::string{load_prefix} +
                            "Loading a microVM snapshot not allowed after configuring boot-specific resources.",
                        "load it in a process that was not told of a machine"));
        // As there, a load that failed ends the process once it is answered.
        const auto over = [&instance, exchange, deprecated = load.deprecated](const Result<void>& loaded) {
            Response response = loaded ? done() : refusal(load_words(loaded.error()), load_prefix);
            response.deprecated = deprecated;
            exchange->answer(std::move(response));
            if (!loaded)
                instance.give_up(loaded.error());
        };
        if (auto prepared = prepare_load(instance, load); !prepared)
            return over(prepared);
        instance.start(over);
    }};
}

Prepared put_snapshot_create(Call& call) {
    auto json = read_json(call.request.body);
    const JsonValue whole{json.root, "", json.problems};
    SnapshotFiles files;
    bool diff = false;
    if (json.problems.empty()) {
        static constexpr std::string_view types[] = {"Full", "Diff"};
        const Members members{whole, {"snapshot_type", "snapshot_path", "mem_file_path"}};
        files.state = members.text("snapshot_path");
        files.memory = members.text("mem_file_path");
        if (members.has("snapshot_type"))
            diff = members.at("snapshot_type").one_of(types).value_or(0) == 1;
    }
    if (!json.problems.empty())
        return body_refusal(json.problems.front(), {json.root, call.request.body});
    const auto kind = diff ? Instance::SnapshotKind::diff : Instance::SnapshotKind::full;
    return Action{[files, kind](Services& services, const std::shared_ptr<Exchange>& exchange) {
        if (services.instance.state() != Instance::State::paused)
            return exchange->answer(refusal(Errc::wrong_state,
                                            std::string{create_prefix} +
                                                "Cannot save the microVM state: Operation not allowed: save/restore "
                                                "unavailable while running",
                                            "PATCH /vm with the state Paused first"));
        services.instance.save_snapshot(
            files, kind, SnapshotSave::Existing::replaced, [exchange](const Result<SnapshotSave::Written>& written) {
                exchange->answer(written ? done() : refusal(written.error(), create_prefix));
            });
    }};
}

Prepared put_own_snapshot(Call& call) {
    if (const Query query{call.request.query, {}}; query.refusal())
        return *query.refusal();
    const auto body =
        read_object(call.request.body, {{"path", FieldSpec::Type::text}, {"diff", FieldSpec::Type::boolean, false}});
    if (body.refusal)
        return *body.refusal;
    const auto kind = body.root.value("diff", false) ? Instance::SnapshotKind::diff : Instance::SnapshotKind::full;
    return Action{[kind, folder = body.root.at("path").get<std::string>()](Services& services,
                                                                           const std::shared_ptr<Exchange>& exchange) {
        const auto files = SnapshotFiles::in(folder);
        services.instance.save_snapshot(files, kind, SnapshotSave::Existing::refused,
                                        [exchange, files](const Result<SnapshotSave::Written>& written) {
                                            exchange->answer(written ? ok({{"state", files.state},
                                                                           {"memory", files.memory},
                                                                           {"bytes", written->memory},
                                                                           {"stored", written->stored}})
                                                                     : refusal(written.error()));
                                        });
    }};
}

Prepared delete_own_snapshot(Call& call) {
    if (const Query query{call.request.query, {}}; query.refusal())
        return *query.refusal();
    return answering([](Services& services) { return outcome(services.instance.cancel_snapshot()); });
}

} // namespace inox::api
