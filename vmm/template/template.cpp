// SPDX-License-Identifier: Apache-2.0
#include "vmm/template/template.hpp"

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>

#include "vmm/base/log_sink.hpp"
#include "vmm/base/outside/outside.hpp"
#include "vmm/base/shared_output.hpp"
#include "vmm/base/thread_kind.hpp"
#include "vmm/config/config_text.hpp"
#include "vmm/confine/confine.hpp"
#include "vmm/snapshot/memory_file.hpp"
#include "vmm/template/report.hpp"

namespace inox::clones {
namespace {

using devices::virtio::FsOptions;

/// What is somebody else's process cannot be in two guests.
Result<void> check_cloneable(const Config& config) {
    for (const auto* share : devices_of<FsOptions>(config))
        if (!share->socket.empty())
            return fail(Errc::unsaveable,
                        "the snapshot's folder " + in_quotes(share->tag) +
                            " is served by a process outside, which has one guest only: it cannot be cloned",
                        "save a guest whose folders inox serves itself (--share path=...)");
    return {};
}

sigset_t child_signal() {
    sigset_t set{};
    ::sigemptyset(&set);
    ::sigaddset(&set, SIGCHLD);
    return set;
}

/// Files that are read and written where --temporary disks keep what was written.
bool has_temporary_disks(const Config& config) {
    return std::ranges::any_of(devices_of<DriveConfig>(config), [](const auto* one) { return one->block.temporary; });
}

EventLog::Details details_of(const Clone& clone) {
    EventLog::Details details{{"pid", static_cast<std::uint64_t>(clone.pid)}};
    if (!clone.id.empty())
        details.emplace_back("id", clone.id);
    return details;
}

} // namespace

Template::~Template() = default;

Result<std::unique_ptr<Template>> Template::load(Plan plan) {
    auto opened = open_snapshot(SnapshotFiles::in(plan.folder));
    if (!opened)
        opened.error().where = "DIR";
    auto saved = TRY(std::move(opened));
    TRY_VOID(use_names(saved.config, plan.file.config));
    TRY_VOID(check_cloneable(saved.config));
    saved.config.machine.track_dirty_pages = false; // the guest sees nothing of it
    std::unique_ptr<Template> made{new Template{std::move(plan), std::move(saved)}};
    made->base_ =
        Restored{.parts = made->saved_.parts, .image = std::move(made->saved_.image), .clock = made->plan_.clock};
    TRY_VOID(Machine::prepare_clones(made->saved_.config, made->base_));
    made->nothing_ = TRY(open_file("/dev/null", O_RDWR, Errc::host_error));
    return made;
}

Result<void> Template::confine(const std::vector<std::string>& own, const std::string& state) {
    state_folder_ = state;
    // Anonymous memory in huge pages would make each clone's small changes large. It is inherited.
    ::prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    auto named = plan_.file; // and what the snapshot's devices use, where the operator has named it
    confinement_ = TRY(Confinement::create(named));
    for (const auto& path : own)
        confinement_->add(path);
    confinement_->add(state_folder_);
    TRY_VOID(confinement_->allow(named));
    std::vector<std::string> writable{state_folder_, "/dev/kvm", "/dev/null", "/dev/net/tun"};
    for (const auto& one : named_paths(named))
        if (one.purpose != confine::Purpose::read && one.purpose != confine::Purpose::tap)
            writable.push_back(one.path);
    if (has_temporary_disks(saved_.config))
        writable.push_back(outside::unnamed_folder());
    auto whole = named; // for what its devices read
    whole.config = saved_.config;
    TRY_VOID(confinement_->enter_template(whole, writable));
    enter_thread(ThreadKind::cloner, "template");
    return {};
}

Result<void> Template::watch(EventLoop& loop) {
    loop_ = &loop;
    const auto set = child_signal();
    ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
    ends_.reset(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!ends_)
        return fail_errno(Errc::host_error, "signalfd failed");
    ends_watch_ = TRY(loop.watch(ends_.get(), [this] { reap(); }));
    return {};
}

/// What `inox run --from` would have made of the same words.
Result<ConfigFile> Template::file_of(Order& order) const {
    ConfigFile file;
    file.config = saved_.config;
    file.config.boot.kernel.clear(); // it has been read
    file.config.boot.initrd.clear();
    file.mmds = saved_.mmds;
    file.run.seccomp = plan_.file.run.seccomp;
    file.run.quiet = true;
    file.run.serial_log = order.names.run.serial_log;
    file.run.console_overflow = ConsoleOverflow::drop;
    file.api = order.names.api;
    file.api.group = plan_.file.api.group;
    file.log = plan_.file.log;
    TRY_VOID(check_beneath(order.names.config, plan_.file.config, plan_.file.allow, order.passed));
    TRY_VOID(use_names(file.config, order.names.config));
    Config given = plan_.file.config;
    given.devices.insert(given.devices.end(), order.names.config.devices.begin(), order.names.config.devices.end());
    TRY_VOID(check_names(file.config, given, plan_.file.allow));
    for (const auto& [path, what] :
         {std::pair{&file.api.socket, "socket"}, std::pair{&file.run.serial_log, "serial log"}})
        if (!path->empty() && std::ranges::find(order.passed, *path) == order.passed.end() &&
            !lies_beneath(*path, plan_.file.allow, true))
            return fail(Errc::not_allowed,
                        "the clone's " + std::string{what} + " is " + in_quotes(*path) +
                            ", which this template may not use",
                        "start the template with --allow and a folder that it lies in");
    for (const auto& one : order.names.allow)
        if (!lies_beneath(one.path, plan_.file.allow, !one.read_only))
            return fail(Errc::not_allowed, "the clone may not open " + in_quotes(one.path) + ": this template may not",
                        "start the template with --allow and a folder that it lies in");
    file.allow = order.names.allow;
    return file;
}

Result<std::unique_ptr<confine::Broker>> Template::broker_for(const ConfigFile& file, const std::string& id) {
    if (!opens_later(file))
        return nullptr;
    std::vector<std::string> more;
    if (!id.empty())
        more = {state_folder_ + "/" + id + ".lock", state_folder_ + "/" + id + ".sock"};
    return confinement_->narrow(file, more);
}

void Template::spawn(Order order, Done done) {
    auto started = fork_one(order);
    if (!started)
        return done(std::unexpected<Error>{std::move(started).error()});
    const pid_t pid = started->clone.pid;
    auto& start = *(starting_[pid] = std::make_unique<Start>(std::move(*started)));
    start.done = std::move(done);
    auto watched = loop_->watch(start.report.get(), [this, pid] { on_report(pid); });
    if (watched)
        start.watch = std::move(*watched);
    else
        finish(pid);
}

Result<Template::Start> Template::fork_one(Order& order) {
    const outside::Patient patient; // it is what this process is for
    Timeline timeline;
    timeline.mark(Timeline::Step::process_started);
    auto file = TRY(file_of(order));
    auto broker = TRY(broker_for(file, file.api.id));
    timeline.mark(Timeline::Step::config_read);
    std::array<int, 2> ends{-1, -1};
    if (::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0)
        return fail_errno(Errc::host_error, "no pipe for a clone");
    UniqueFd near{ends[0]};
    UniqueFd far{ends[1]};
    sigset_t all{};
    sigset_t before{};
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    const pid_t pid = ::fork();
    if (pid == 0)
        become(std::move(file), order, far.get(), timeline, std::move(broker));
    const int error = errno;
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (pid < 0) {
        errno = error;
        return fail_errno(Errc::host_error, "cannot make a process for a clone",
                          "see the limits of the user and of the control group (ulimit -u, pids.max)");
    }
    ++spawned_;
    auto socket = file.api.socket;
    if (socket.empty() && !file.api.id.empty())
        socket = state_folder_ + "/" + file.api.id + ".sock";
    return Start{.clone = {.id = file.api.id,
                           .pid = pid,
                           .socket = std::move(socket),
                           .started_at = std::chrono::steady_clock::now()},
                 .done = {},
                 .report = std::move(near)};
}

// The process of a clone

/// Descriptors of the template, its terminal and its group of processes. Objects that own a closed one are never
/// destroyed here: the process ends without leaving this stack.
void Template::leave_parent(const std::vector<int>& kept) const {
    ::setsid();
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd)
        ::dup2(nothing_.get(), fd);
    std::vector<int> sorted{kept};
    for (const int fd : {base_.image.get(), base_.memory ? base_.memory->image_fd() : -1,
                         base_.kvm ? base_.kvm->fd() : -1, log::sink_fd()})
        sorted.push_back(fd);
    std::ranges::sort(sorted);
    unsigned next = STDERR_FILENO + 1;
    for (const int fd : sorted) {
        if (fd < static_cast<int>(next))
            continue;
        if (static_cast<unsigned>(fd) > next)
            ::close_range(next, static_cast<unsigned>(fd) - 1, 0);
        next = static_cast<unsigned>(fd) + 1;
    }
    ::close_range(next, ~0U, 0);
    sigset_t none{};
    ::sigemptyset(&none);
    ::pthread_sigmask(SIG_SETMASK, &none, nullptr);
}

void Template::become(ConfigFile file, Order& order, int report, Timeline& timeline,
                      std::unique_ptr<confine::Broker> broker) {
    int code = exit_code(Errc::internal);
    try {
        auto kept = order.descriptors;
        kept.push_back(report);
        if (broker)
            kept.push_back(broker->fd());
        leave_parent(kept);
        ::pthread_setname_np(::pthread_self(), "inox");
        renew_shared_error();
        outside::reopen();
        // The map of this process's pages belongs to root as long as it hides from its user.
        if (!file.api.socket.empty() || !file.api.id.empty()) {
            if (::geteuid() != 0)
                ::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
            static_cast<void>(snapshot::page_map());
            ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        }
        auto from = std::move(base_);
        from.clock = order.clock.value_or(plan_.clock);
        code = plan_.run({.file = std::move(file),
                          .from = std::move(from),
                          .begin = order.begin,
                          .timeline = timeline,
                          .confinement = Confinement::with(std::move(broker)),
                          .running = [&, told = false, paused = order.begin == Machine::Begin::paused](
                                         const Result<void>& running) mutable {
                              if (std::exchange(told, true))
                                  return;
                              const auto at = timeline.at(Timeline::Step::first_instruction);
                              send_report(report, running, paused || at == 0 ? std::nullopt : std::optional{at});
                              ::close(report);
                          }});
    } catch (const std::exception& error) {
        send_report(report, fail(Errc::internal, error.what(), "this is a bug in inox: please report it"), {});
    }
    std::exit(code); // NOLINT(concurrency-mt-unsafe): the other threads have ended
}

// What becomes of it

void Template::on_report(pid_t pid) {
    auto& start = *starting_.at(pid);
    std::array<char, 4096> piece{};
    for (;;) {
        const auto got = ::read(start.report.get(), piece.data(), piece.size());
        if (got > 0) {
            start.text.append(piece.data(), static_cast<std::size_t>(got));
            continue;
        }
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            return;
        return finish(pid);
    }
}

void Template::finish(pid_t pid) {
    auto found = starting_.extract(pid);
    auto& start = *found.mapped();
    auto ran = read_report(start.text);
    auto& clone = start.clone;
    if (ran) {
        if (*ran)
            clone.first_instruction = std::chrono::nanoseconds{**ran};
        auto details = details_of(clone);
        if (clone.first_instruction)
            details.emplace_back("first_instruction_us",
                                 static_cast<std::uint64_t>(clone.first_instruction->count() / 1000));
        events_.publish("clone-started", std::move(details));
        clones_[pid] = clone;
        start.done(clone);
    } else {
        auto details = details_of(clone);
        details.emplace_back("code", std::string{error_name(ran.error().code)});
        details.emplace_back("what", ran.error().message());
        events_.publish("clone-failed", std::move(details));
        start.done(std::unexpected<Error>{std::move(ran).error()});
    }
    if (auto ended = ended_.extract(pid); !ended.empty() && clones_.contains(pid))
        on_end(pid, ended.mapped());
}

void Template::reap() {
    signalfd_siginfo ignored{};
    while (::read(ends_.get(), &ignored, sizeof ignored) == static_cast<ssize_t>(sizeof ignored)) {
    }
    int status = 0;
    for (pid_t pid = ::waitpid(-1, &status, WNOHANG); pid > 0; pid = ::waitpid(-1, &status, WNOHANG)) {
        if (starting_.contains(pid))
            ended_[pid] = status; // its report comes first
        else if (clones_.contains(pid))
            on_end(pid, status);
    }
}

void Template::on_end(pid_t pid, int status) {
    const auto clone = clones_.extract(pid);
    auto details = details_of(clone.mapped());
    if (WIFSIGNALED(status)) {
        details.emplace_back("how", "killed");
        details.emplace_back("signal", static_cast<std::uint64_t>(WTERMSIG(status)));
    } else {
        details.emplace_back("how", "exited");
        details.emplace_back("exit_code", static_cast<std::uint64_t>(WEXITSTATUS(status)));
    }
    events_.publish("clone-ended", std::move(details));
}

} // namespace inox::clones
