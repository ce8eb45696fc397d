// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/instance.hpp"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <utility>

#include "devices/mmds/service.hpp"
#include "vmm/base/hex.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/thread_failure.hpp"
#include "vmm/boot/vmcoreinfo.hpp"
#include "vmm/guest_root/guest_root.hpp"
#include "vmm/instance/confinement/confinement.hpp"
#include "vmm/instance/output_files.hpp"
#include "vmm/instance/verdict/places.hpp"
#include "vmm/machine/preparation.hpp"

namespace inox {
namespace {

EventLog::Details details_of(const GuestEnd& end) {
    static constexpr const char* words[] = {"powered off", "reset", "exited", "failed", "stopped"};
    EventLog::Details details{{"how", words[static_cast<std::size_t>(end.how)]}};
    if (end.how == GuestEnd::How::exited)
        details.emplace_back("exit_code", std::uint64_t{end.exit_code});
    if (end.error) {
        details.emplace_back("code", std::string{error_name(end.error->code)});
        details.emplace_back("what", end.error->message());
    } else if (!end.what.empty()) {
        details.emplace_back("what", end.what);
    }
    return details;
}

EventLog::Details details_of(const GuestPanic& panic) {
    const bool device = panic.source == GuestPanic::Source::pvpanic;
    EventLog::Details details{{"source", device ? "pvpanic" : "console"}, {"crash_kernel", panic.crash_kernel}};
    if (!panic.reason.empty())
        details.emplace_back("what", panic.reason);
    return details;
}

} // namespace

Instance::Instance(EventLoop& loop, Timeline& timeline, ConfigFile file, Identity identity, InstanceEvents& owner)
    : loop_{loop}, timeline_{timeline}, file_{std::move(file)}, identity_{std::move(identity)}, owner_{owner} {}

Instance::State Instance::state() const {
    if (!machine_)
        return State::not_started;
    switch (machine_->state()) {
    case Machine::State::ready:
        return State::not_started;
    case Machine::State::running:
        return State::running;
    case Machine::State::paused:
        return State::paused;
    case Machine::State::stopped:
        break;
    }
    return State::ended;
}

void Instance::start(Started done) {
    if (machine_ || start_)
        return done(fail(Errc::wrong_state, "the guest was started before", "start it once"));
    if (auto prepared = prepare_start(); !prepared)
        return on_started(std::move(prepared), std::move(done));
    make_machine([this, done = std::move(done)](Result<void> started) mutable {
        on_started(std::move(started), std::move(done));
    });
}

/// Finds what can be wrong without a machine. Outputs are only checked: a start that fails leaves no file behind.
Result<void> Instance::prepare_start() {
    std::error_code no_folder; // then relative paths stay so
    folder_ = std::filesystem::current_path(no_folder).string();
    if (!restored_) {
        TRY_VOID(check_complete());
        TRY_VOID(guest_root::add_device(file_.config));
    }
    TRY_VOID(check_outputs_apart(file_));
    if (!file_.run.symbols.empty())
        TRY_VOID(placed(Symbols::check(file_.run.symbols), "/inox/symbols"));
    if (file_.metrics && !metrics_)
        TRY_VOID(placed(check_output(file_.metrics->path), "/metrics/metrics_path"));
    gate_ = TRY(RunGate::create());
    console_ = TRY(GuestConsole::create(file_, loop_, *gate_, timeline_, owner_));
    return {};
}

void Instance::on_started(Result<void> started, Started done) {
    if (!started) {
        if (machine_)
            machine_->stop();
        // The machine's vCPUs may have posted work to the loop that uses these, so they are destroyed behind it.
        loop_.post([gate = std::move(gate_), console = std::move(console_), machine = std::move(machine_)]() mutable {
            machine.reset();
            console.reset();
        });
        events_.publish("start-failed",
                        {{"code", std::string{error_name(started.error().code)}}, {"what", started.error().message()}});
        return done(std::move(started));
    }
    events_.publish("started");
    static_cast<void>(flush_metrics());
    flush_metrics_later();
    console_->start_input();
    done({});
}

void Instance::keep_removable(std::string path) {
    if (confinement_)
        confinement_->add(std::move(path));
}

void Instance::after_start(std::move_only_function<void()> work) {
    if (!start_)
        return work();
    start_->behind.push_back(std::move(work));
}

void Instance::make_machine(Started done) {
    start_ = std::make_unique<Start>(std::move(done));
    const Machine::Owner owner{.events = *this,
                               .serial = *console_,
                               .console = *console_,
                               .net_filters = [this](const std::string& id) { return net_filter(id); },
                               .debugger = debugger_};
    auto make = [this, &start = *start_, owner, file = file_,
                 from = std::exchange(restored_, std::nullopt)](const std::stop_token& stop) mutable {
        {
            const EventLoop::Apart apart{loop_};
            start.machine = [&]() -> Result<std::unique_ptr<Machine>> {
                if (confinement_)
                    TRY_VOID(confinement_->allow(file));
                return from ? Machine::restore(file.config, loop_, timeline_, *gate_, owner, std::move(*from))
                            : Machine::create(file.config, loop_, timeline_, *gate_, owner, stop);
            }();
        }
        loop_.post([this] { on_made(); });
    };
    try {
        start_->maker = std::jthread{std::move(make)};
    } catch (const std::system_error& error) {
        start_->machine = fail_thread("the thread that makes the machine", error);
        on_made();
    }
}

void Instance::on_made() {
    if (!start_)
        return; // stop() came first
    if (start_->maker.joinable())
        start_->maker.join();
    const auto start = std::move(start_);
    start->done(run_machine(std::move(start->machine)));
    for (auto& work : start->behind)
        work();
}

Result<void> Instance::run_machine(Result<std::unique_ptr<Machine>> made) {
    machine_ = TRY(std::move(made));
    TRY_VOID(console_->open_outputs(file_));
    if (file_.metrics && !metrics_)
        TRY_VOID(use_metrics(MetricsConfig{*file_.metrics}));
    console_->connect(*machine_);
    started_at_ = std::chrono::steady_clock::now();
    if (debugger_)
        debugger_->attach(*machine_);
    if (counts_exits_ |= !file_.run.exits.empty(); counts_exits_)
        machine_->count_exits();
    if (confinement_) {
        TRY_VOID(confinement_->enter(file_));
        broker_watch_ = TRY(confinement_->watch(loop_, [this] {
            events_.publish("broker-ended");
            broker_watch_.reset(); // may destroy this
        }));
    }
    return machine_->start(std::exchange(begin_, Machine::Begin::running));
}

void Instance::on_device_error(const DeviceName& name, const std::string& what) {
    events_.publish("device-error", {{"kind", std::string{kind_name(name.kind)}}, {"id", name.id}, {"what", what}});
}

void Instance::on_panic(const GuestPanic& panic) {
    events_.publish("guest-panic", details_of(panic));
    dump_panic();
    if (debugger_)
        debugger_->on_panic();
}

void Instance::on_user_space_up() { owner_.on_user_space_up(); }

void Instance::on_iommu_fault(const iommu::Faults::Entry& entry) {
    const auto& fault = entry.fault;
    const std::uint64_t left_out = entry.number - std::exchange(last_fault_, entry.number) - 1;
    events_.publish("iommu-fault", {{"endpoint", std::uint64_t{fault.endpoint.raw()}},
                                    {"address", format("%#llx", hex(fault.address))},
                                    {"access", access_text(fault.access)},
                                    {"reason", iommu::reason_text(fault.reason)},
                                    {"left_out", left_out}});
}

// A reboot

void Instance::on_end(GuestEnd end) {
    if (dumps_first(end)) {
        end_after_dump_ = std::move(end);
        return;
    }
    if (end.how != GuestEnd::How::reset || shutting_down_ || file_.run.on_reboot == OnReboot::end)
        return owner_.on_end(std::move(end));
    if (file_.run.on_reboot == OnReboot::restart)
        return restart_later();
    owner_.on_end({GuestEnd::How::failed, 0,
                   make_error(Errc::guest_rebooted, "the guest rebooted", "--on-reboot fail makes that an error")});
}

/// A guest that reboots at once, again and again, is started once a second. That is cheap for the host, and it may go
/// on for as long as the operator lets it.
void Instance::restart_later() {
    machine_->stop();
    const auto next = started_at_ + std::chrono::seconds{1};
    const auto delay = std::chrono::ceil<std::chrono::milliseconds>(next - std::chrono::steady_clock::now());
    restart_timer_ = loop_.after(std::max(delay, std::chrono::milliseconds{0}), [this] {
        // Posted, to run after what the old machine's vCPUs have posted.
        loop_.post([this] { restart(); });
    });
}

/// The old machine is destroyed first, because the new one needs its disks, taps, sockets and host devices.
void Instance::restart() {
    if (finished_)
        return;
    console_->disconnect();
    if (debugger_)
        debugger_->detach();
    if (counts_exits_)
        exits_before_ = exit_counts();
    move_.reset();
    machine_.reset();
    gate_->reopen();
    const auto over = [this](Result<void> started) {
        if (started)
            return events_.publish("restarted", {{"count", ++restarts_}});
        if (machine_)
            machine_->stop();
        owner_.on_end({GuestEnd::How::failed, 0, std::move(started).error()});
    };
    make_machine(over);
}

Result<std::shared_ptr<devices::virtio::NetFilter>> Instance::net_filter(const std::string& id) {
    if (!file_.mmds || std::ranges::find(file_.mmds->interfaces, id) == file_.mmds->interfaces.end())
        return nullptr;
    const auto address = devices::mmds::parse_ipv4(file_.mmds->address);
    if (!address)
        return fail(Errc::config_value, "'" + file_.mmds->address + "' is not an IPv4 address");
    const auto version = file_.mmds->version_2 ? devices::mmds::Version::v2 : devices::mmds::Version::v1;
    return TRY(devices::mmds::Service::create(mmds_, loop_, {*address, {version, file_.mmds->imds_compatible}}));
}

Result<Machine*> Instance::running_machine() const {
    if (!machine_)
        return fail(Errc::wrong_state, "the guest was not started", "start it first");
    return machine_.get();
}

Result<void> Instance::pause() {
    auto* machine = TRY(running_machine());
    const bool news = machine->state() == Machine::State::running;
    TRY_VOID(machine->pause());
    if (news)
        events_.publish("paused");
    return {};
}

Result<void> Instance::resume() {
    auto* machine = TRY(running_machine());
    const bool news = machine->state() == Machine::State::paused;
    take_back();
    TRY_VOID(machine->resume());
    if (news)
        events_.publish("resumed");
    return {};
}

Result<void> Instance::send_ctrl_alt_del() {
    TRY(running_machine())->send_ctrl_alt_del();
    return {};
}

Result<void> Instance::send_nmi(std::optional<unsigned> only) { return TRY(running_machine())->send_nmi(only); }

std::vector<unsigned> Instance::deaf_vcpus() {
    return state() == State::running && machine_ ? machine_->deaf_vcpus() : std::vector<unsigned>{};
}

std::vector<ExitCount> Instance::exit_counts() {
    auto counts = exits_before_;
    if (machine_) {
        machine_->count_exits();
        const auto now = machine_->exit_counts();
        counts.insert(counts.end(), now.begin(), now.end());
    }
    counts_exits_ = true;
    merge(counts);
    return counts;
}

std::vector<std::string> Instance::describe_vcpus() const {
    if (!machine_ || machine_->state() == Machine::State::stopped)
        return {};
    std::optional<Symbols> symbols;
    std::uint64_t moved = 0;
    if (!file_.run.symbols.empty()) {
        auto opened = Symbols::open(file_.run.symbols);
        if (opened)
            symbols = std::move(*opened);
        else
            log::write(log::Level::error, "%s", opened.error().message().c_str());
        const auto info = boot::find_vmcoreinfo(machine_->memory());
        moved = info ? boot::vmcoreinfo_number(*info, "KERNELOFFSET").value_or(0) : 0;
    }
    const Symbols* const names = symbols ? &*symbols : nullptr;
    std::vector<std::string> out;
    for (const auto& place : find_places(*machine_, names, moved))
        out.push_back(place_text(place, names, moved));
    return out;
}

Result<void> Instance::press_power_button() {
    auto* machine = TRY(running_machine());
    if (machine->state() != Machine::State::running)
        return fail(Errc::wrong_state, "the guest is not running, so it cannot react to its power button",
                    "resume it first");
    shutting_down_ = true;
    machine->press_power_button();
    return {};
}

void Instance::end(const GuestEnd& why) {
    stop();
    events_.publish("ended", details_of(why));
}

void Instance::stop() {
    if (!console_ || finished_)
        return;
    finished_ = true;
    dump_.reset();
    save_.reset();
    if (start_)
        start_->maker.request_stop();
    restart_timer_.reset();
    metrics_timer_.reset();
    broker_watch_.reset();
    static_cast<void>(flush_metrics());
    if (machine_)
        machine_->stop();
    console_->finish();
}

// Metrics

Result<void> Instance::use_metrics(const MetricsConfig& config) {
    if (metrics_)
        return fail(Errc::wrong_state, "metrics are written already", "metrics go to " + file_.metrics->path,
                    MetricsStarted{});
    metrics_ = TRY(placed(MetricsFile::open(config.path), "/metrics/metrics_path"));
    file_.metrics = config;
    return {};
}

Samples Instance::samples() const {
    Samples samples;
    samples.push_back({"logger", {}, "missed_log_count", log::dropped(), {}});
    samples.push_back({"logger", {}, "missed_metrics_count", metrics_ ? metrics_->dropped() : 0, {}});
    const auto missed_serial = console_ ? console_->missed_serial() : 0;
    samples.push_back({"logger", {}, "missed_serial_bytes", missed_serial, {}});
    // Firecracker's name for the same: its guest writes one byte at a time.
    samples.push_back({"uart", {}, "missed_write_count", missed_serial, {}});
    samples.push_back({"logger", {}, "missed_console_bytes", console_ ? console_->missed_console() : 0, {}});
    if (confinement_)
        confinement_->collect(samples);
    if (more_samples_)
        more_samples_(samples);
    if (machine_)
        collect(*machine_, samples);
    return samples;
}

Registration Instance::add_samples(std::function<void(Samples&)> source) {
    more_samples_ = std::move(source);
    return Registration{[this] { more_samples_ = nullptr; }};
}

Result<void> Instance::flush_metrics() {
    if (metrics_ && identity_.metrics_line)
        metrics_->write(identity_.metrics_line(samples(), identity_.id, *file_.metrics));
    return {};
}

void Instance::flush_metrics_later() {
    if (metrics_)
        metrics_timer_ = loop_.after(std::chrono::seconds{60}, [this] {
            static_cast<void>(flush_metrics());
            flush_metrics_later();
        });
}

Result<void> Instance::serial_log_result() const { return console_ ? console_->log_result() : Result<void>{}; }

void Instance::resize_console() {
    if (console_)
        console_->resize();
}

void Instance::suspend_console() {
    if (console_)
        console_->suspend();
}

void Instance::resume_console() {
    if (console_)
        console_->resume();
}

} // namespace inox
