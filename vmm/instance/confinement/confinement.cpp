// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/confinement/confinement.hpp"

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <unistd.h>

#include "devices/vfio/pci_address.hpp"
#include "devices/vfio/sysfs.hpp"
#include "vmm/base/descriptors.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/outside/counters.hpp"
#include "vmm/base/outside/outside.hpp"
#include "vmm/base/shared_output.hpp"
#include "vmm/confine/landlock.hpp"

namespace inox {
namespace {

using confine::Purpose;
using devices::virtio::FsOptions;
using devices::virtio::NetOptions;
using devices::virtio::VsockOptions;

class PathNames {
public:
    void add(const std::string& path, Purpose purpose) {
        if (!path.empty())
            all_.push_back({path, purpose});
    }
    void add(const DriveConfig& drive) {
        add(drive.block.path, drive.block.read_only || drive.block.temporary ? Purpose::read : Purpose::write);
    }
    void add(const NetOptions& net) {
        add(net.tap, Purpose::tap);
        add(net.socket, Purpose::connect);
    }
    void add(const FsOptions& share) {
        add(share.path, share.read_only ? Purpose::read : Purpose::write);
        add(share.socket, Purpose::connect);
    }
    void add(const VsockOptions& vsock) {
        add(vsock.uds_path, Purpose::write);
        add(vsock.uds_path, Purpose::ports);
    }
    void add(const ConsoleConfig& console) { add(console.path, Purpose::write); }
    void add(const VfioConfig& device) {
        const auto address = devices::vfio::check_options(device.open);
        if (!address)
            return;
        const auto host = devices::vfio::read_sysfs_device({}, *address);
        add("/dev/vfio/vfio", Purpose::write);
        add("/dev/iommu", Purpose::write);
        add(host.device_file, Purpose::write);
        if (host.group)
            add("/dev/vfio/" + std::to_string(*host.group), Purpose::write);
    }
    template <class Other> void add(const Other& /*device*/) {}

    std::vector<confine::Allowed> take() { return std::move(all_); }

private:
    std::vector<confine::Allowed> all_{};
};

template <class Options, class F> bool any_of(const Config& config, F&& test) {
    const auto devices = devices_of<Options>(config);
    return std::ranges::any_of(devices, [&](const Options* one) { return test(*one); });
}

bool covers(const AllowedPath& allowed, std::string_view path) {
    return allowed.path == "/" || path == allowed.path || path.starts_with(allowed.path + "/") ||
           std::string_view{allowed.path}.starts_with(path);
}

/// Of a thread that opens nothing. It goes on without, as on a kernel that has no Landlock, and somebody is told.
void confine_thread() noexcept {
    if (const auto done = confine::landlock::restrict_thread({}, confine::landlock::version()); !done)
        log::write(log::Level::error, "%s", done.error().message().c_str());
}

} // namespace

std::vector<confine::Allowed> named_paths(const ConfigFile& file) {
    PathNames names;
    const auto& config = file.config;
    names.add("/dev/kvm", Purpose::write);
    for (const auto* path : {&config.boot.kernel, &config.boot.initrd, &file.run.symbols})
        names.add(*path, Purpose::read);
    for (const auto* path : {&file.log.path, &file.serial.path, &file.run.serial_log, &file.run.boot_timeline,
                             &file.run.exits, &file.run.result, &file.run.dump_on_panic, &file.api.socket})
        names.add(*path, Purpose::write);
    if (file.metrics)
        names.add(file.metrics->path, Purpose::write);
    if (file.run.gdb)
        names.add(file.run.gdb->socket, Purpose::write);
    for (const auto& device : config.devices)
        std::visit([&](const auto& one) { names.add(one); }, device);
    for (const auto& allowed : file.allow)
        names.add(allowed.path, allowed.read_only ? Purpose::read : Purpose::write);
    return names.take();
}

bool opens_later(const ConfigFile& file) {
    const auto& run = file.run;
    const bool api = !file.api.socket.empty() || !file.api.id.empty();
    const bool at_the_end = !run.result.empty() || !run.exits.empty() || !run.boot_timeline.empty() ||
                            !run.dump_on_panic.empty() || !run.symbols.empty() || (run.gdb && !run.gdb->socket.empty());
    const auto& config = file.config;
    return api || at_the_end || !file.allow.empty() || run.on_reboot == OnReboot::restart || config.root ||
           any_of<NetOptions>(
               config, [](const NetOptions& net) { return net.user || !net.socket.empty() || !net.tap.empty(); }) ||
           any_of<FsOptions>(config, [](const FsOptions&) { return true; }) ||
           any_of<VsockOptions>(config, [](const VsockOptions&) { return true; });
}

std::vector<std::string> readable_paths(const ConfigFile& file) {
    std::vector<std::string> paths{"/proc"};
    const auto& config = file.config;
    const bool devices = device_of<VfioConfig>(config) != nullptr || device_of<DsaConfig>(config) != nullptr ||
                         std::ranges::any_of(file.allow, [](const AllowedPath& one) {
                             return covers(one, "/dev/vfio") || covers(one, "/dev/iommu") || covers(one, "/dev/dsa");
                         });
    paths.emplace_back(devices ? "/sys" : "/sys/fs/cgroup"); // the group's limit on memory is for messages
    if (opens_later(file))                                   // for passt
        paths.insert(paths.end(), {"/etc/resolv.conf", "/run/systemd/resolve"});
    if (file.run.on_reboot == OnReboot::restart && config.root) { // the initrd is made again
        std::error_code error;
        paths.insert(paths.end(), {"/lib/modules", "/usr/lib/modules", config.root->path});
        paths.push_back(config.root->modules.empty() ? "/lib/modules" : config.root->modules);
        paths.push_back(std::filesystem::absolute(config.boot.kernel, error).parent_path().string());
    }
    return paths;
}

Confinement::Confinement(std::unique_ptr<confine::Broker> broker) : broker_{std::move(broker)} {
    outside::use(broker_.get());
    outside::confine_threads(confine_thread);
}

Confinement::~Confinement() {
    outside::confine_threads(nullptr);
    outside::use(nullptr);
}

Result<std::unique_ptr<Confinement>> Confinement::create(const ConfigFile& file) {
    std::unique_ptr<confine::Broker> broker;
    if (opens_later(file))
        broker = TRY(confine::Broker::start());
    return std::unique_ptr<Confinement>{new Confinement{std::move(broker)}};
}

std::unique_ptr<Confinement> Confinement::with(std::unique_ptr<confine::Broker> broker) {
    std::unique_ptr<Confinement> made{new Confinement{std::move(broker)}};
    made->listed_ = true;
    return made;
}

Result<void> Confinement::allow(const ConfigFile& file) {
    if (entered_ || listed_ || !broker_)
        return {};
    auto all = named_paths(file);
    for (const auto& path : more_)
        all.push_back({path, Purpose::write});
    return broker_->allow(all);
}

Result<void> Confinement::enter(const ConfigFile& file) {
    if (std::exchange(entered_, true))
        return {};
    if (broker_)
        TRY_VOID(broker_->seal());
    ::tzset();                         // reads a file
    static_cast<void>(shared_error()); // opens the terminal again
    const int abi = confine::landlock::version();
    if (abi == 0)
        log::write(log::Level::info, "this host's kernel has no Landlock: it does not keep inox from opening files");
    outside::shut();
    return confine::landlock::restrict_thread(readable_paths(file), abi);
}

Result<void> Confinement::enter_template(const ConfigFile& file, const std::vector<std::string>& writable) {
    entered_ = true;
    if (broker_)
        TRY_VOID(broker_->seal());
    ::tzset();
    static_cast<void>(shared_error());
    auto readable = readable_paths(file);
    for (const auto& one : named_paths(file))
        if (one.purpose == Purpose::read)
            readable.push_back(one.path);
    readable.insert(readable.end(), {"/sys", "/etc"}); // groups, local time, and what devices are checked with
    outside::shut();
    return confine::landlock::restrict_thread(readable, confine::landlock::version(), writable);
}

Result<std::unique_ptr<confine::Broker>> Confinement::narrow(const ConfigFile& file,
                                                             const std::vector<std::string>& more) {
    auto all = named_paths(file);
    for (const auto& path : more)
        all.push_back({path, Purpose::write});
    std::erase_if(all, [](const confine::Allowed& one) { // it may open these anyway, for no more than it has
        return std::ranges::any_of(descriptors::folders,
                                   [&](std::string_view folder) { return one.path.starts_with(folder); });
    });
    auto narrower = TRY(broker_->narrow());
    TRY_VOID(narrower->allow(all));
    TRY_VOID(narrower->seal());
    return narrower;
}

Result<Registration> Confinement::watch(EventLoop& loop, std::function<void()> ended) const {
    if (!broker_)
        return Registration{};
    return loop.watch(broker_->fd(), [ended = std::move(ended)] {
        confine::Broker::tell_gone();
        ended();
    });
}

void Confinement::collect(Samples& samples) const {
    const auto add = [&](const char* name, std::uint64_t value) {
        samples.push_back({"confinement", {}, name, value});
    };
    const auto& refused = outside::counters();
    add("refused_files", refused.files);
    add("refused_sockets", refused.sockets);
    add("refused_taps", refused.taps);
    add("refused_programs", refused.programs);
    add("broker_timeouts", refused.unanswered);
    const bool ended = broker_state() == confine::Broker::State::ended;
    samples.push_back({"confinement", {}, "broker_ended", ended ? 1U : 0U, Sample::Type::gauge});
    // Firecracker's: a call that is not in a thread's list ends the process, so nobody reads another number.
    samples.push_back({"seccomp", {}, "num_faults", 0});
}

std::optional<confine::Broker::State> Confinement::broker_state() const {
    return broker_ ? std::optional{broker_->state()} : std::nullopt;
}

} // namespace inox
