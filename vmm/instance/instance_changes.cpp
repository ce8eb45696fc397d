// SPDX-License-Identifier: Apache-2.0
// What operators change: the configuration before the start, and devices after it.
#include <algorithm>

#include "devices/virtio/balloon.hpp"
#include "devices/virtio/block/block.hpp"
#include "devices/virtio/net/net.hpp"
#include "vmm/instance/instance.hpp"
#include "vmm/instance/output_files.hpp"

namespace inox {
namespace {

std::unexpected<Error> no_device(const char* kind, const std::string& id) {
    return fail(Errc::not_found, format("there is no %s with the id '%s'", kind, id.c_str()), {}, NoDevice{});
}

bool same(const Error& a, const Error& b) { return a.code == b.code && a.what == b.what && a.where == b.where; }

/// Whether later requests may still solve the problem: before the start they come in any order.
bool may_pass(const Error& problem) {
    return problem.code == Errc::no_resource || problem.where == "/balloon/amount_mib";
}

/// The first problem that this change adds. Missing keys are no problem: they may still come.
Result<void> check_change(const Config& before, const Config& after, bool started) {
    const auto old_problems = check(before);
    for (auto& problem : check(after))
        if (std::ranges::none_of(old_problems, [&](const Error& old) { return same(old, problem); }) &&
            problem.code != Errc::config_missing_key && (started || !may_pass(problem)))
            return std::unexpected<Error>{std::move(problem)};
    return {};
}

} // namespace

Result<void> Instance::configure(const std::function<void(ConfigFile&)>& change) {
    if (machine_ || start_)
        return fail(Errc::wrong_state, "the guest was started before", "configure it before the start");
    ConfigFile changed = file_;
    change(changed);
    TRY_VOID(check_change(file_.config, changed.config, false));
    file_ = std::move(changed);
    return {};
}

Result<void> Instance::check_complete() const {
    if (identity_.needs_kernel && file_.config.boot.kernel.empty())
        return fail(Errc::config_missing_key, "the guest has no kernel", "PUT /boot-source first", NoKernel{});
    if (auto problems = check(file_.config); !problems.empty())
        return std::unexpected<Error>{std::move(problems.front())};
    if (auto metadata = check_metadata(file_))
        return std::unexpected<Error>{std::move(*metadata)};
    return {};
}

Result<Machine*> Instance::may_add(const DeviceConfig& config) const {
    auto* machine = TRY(changeable_machine());
    if (file_.config.machine.transport == Transport::mmio)
        return fail(Errc::wrong_state, "a machine without PCI cannot gain devices while it runs",
                    "start with --enable-pci", PciOff{});
    TRY_VOID(machine->devices().check_free(device_name(config)));
    ConfigFile changed = file_;
    put_device(changed.config, config);
    TRY_VOID(check_change(file_.config, changed.config, true));
    TRY_VOID(check_outputs_apart(changed));
    return machine;
}

void Instance::add_device(const DeviceConfig& config, Platform::Added done) {
    auto machine = may_add(config);
    if (!machine)
        return done(std::unexpected{std::move(machine).error()});
    (*machine)->add_device(config, [this, config, done = std::move(done)](Result<DeviceStatus> status) mutable {
        if (status)
            put_device(file_.config, config);
        done(std::move(status));
    });
}

Result<void> Instance::remove_device(const DeviceName& name, Removal how) {
    return TRY(changeable_machine())->remove_device(name, how);
}

void Instance::on_device(const DeviceEvent& event) {
    static constexpr const char* kinds[] = {"device-added", "device-ejecting", "device-ejected", "device-removed"};
    const auto& [name, state, address] = event.device;
    EventLog::Details details{{"kind", std::string{kind_name(name.kind)}}, {"id", name.id}};
    if (event.what == DeviceEvent::What::failed) {
        details.emplace_back("what", event.text);
        return events_.publish("device-error", std::move(details));
    }
    if (address)
        details.emplace_back("address", address->text());
    events_.publish(kinds[static_cast<std::size_t>(event.what)], std::move(details));
    if (event.what == DeviceEvent::What::added || event.what == DeviceEvent::What::ejecting)
        return;
    inox::remove_device(file_.config, name);
}

namespace {

void merge(devices::RateLimits& into, const devices::RateLimits& from) {
    if (from.bandwidth)
        into.bandwidth = from.bandwidth;
    if (from.ops)
        into.ops = from.ops;
}

} // namespace

Result<std::shared_ptr<devices::virtio::Block>> Instance::changing_drive(const std::string& id,
                                                                         const std::string& path) const {
    auto disk = TRY(changeable_machine())->disk(id);
    if (!disk)
        return no_device("drive", id);
    ConfigFile changed = file_;
    if (auto* drive = find_device<DriveConfig>(changed.config, id); drive && !path.empty())
        drive->block.path = path;
    TRY_VOID(check_outputs_apart(changed));
    return disk;
}

void Instance::change_drive(const std::string& id, const std::string& path, const devices::RateLimits& limits,
                            Platform::Done done) {
    auto disk = changing_drive(id, path);
    if (!disk)
        return done(std::unexpected{std::move(disk).error()});
    auto changed = [this, id, path, limits, disk = *disk, done = std::move(done)](Result<void> replaced) mutable {
        if (!replaced)
            return done(std::move(replaced));
        disk->update_limits(limits);
        if (auto* drive = find_device<DriveConfig>(file_.config, id)) {
            if (!path.empty())
                drive->block.path = path;
            merge(drive->block.limits, limits);
        }
        done({});
    };
    if (path.empty())
        return changed({});
    machine_->replace_image(*disk, path, std::move(changed));
}

Result<void> Instance::change_net(const std::string& id, const devices::RateLimits& receive,
                                  const devices::RateLimits& send) {
    const auto device = TRY(changeable_machine())->net(id);
    if (!device)
        return no_device("network interface", id);
    device->update_limits(receive, send);
    if (auto* net = find_device<devices::virtio::NetOptions>(file_.config, id)) {
        merge(net->receive_limits, receive);
        merge(net->send_limits, send);
    }
    return {};
}

Result<std::shared_ptr<devices::virtio::Balloon>> Instance::balloon() const {
    auto balloon = TRY(running_machine())->balloon();
    if (!balloon)
        return fail(Errc::not_found, "the guest has no balloon", "PUT /balloon before the start", NoDevice{});
    return balloon;
}

Result<Instance::BalloonReport> Instance::balloon_report() const {
    const auto device = TRY(balloon());
    const auto statistics = TRY(device->statistics());
    return BalloonReport{device->target(), device->actual(), statistics};
}

Result<devices::virtio::BalloonHinting> Instance::balloon_hinting() const { return TRY(balloon())->hinting(); }
Result<void> Instance::start_balloon_hinting(bool acknowledge) { return TRY(balloon())->start_hinting(acknowledge); }
Result<void> Instance::stop_balloon_hinting() { return TRY(balloon())->stop_hinting(); }

Result<void> Instance::change_balloon(std::uint64_t target) {
    static_cast<void>(TRY(changeable_machine()));
    const auto device = TRY(balloon());
    TRY_VOID(device->set_target(target));
    device_of<devices::virtio::BalloonOptions>(file_.config)->target = target;
    return {};
}

Result<void> Instance::change_balloon_statistics(std::chrono::seconds interval) {
    static_cast<void>(TRY(changeable_machine()));
    const auto device = TRY(balloon());
    TRY_VOID(device->set_statistics_interval(interval));
    device_of<devices::virtio::BalloonOptions>(file_.config)->statistics_interval = interval;
    return {};
}

} // namespace inox
