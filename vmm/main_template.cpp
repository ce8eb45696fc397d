// SPDX-License-Identifier: Apache-2.0
// `inox template`: a snapshot that is loaded once, and a process for each clone of it.
#include <algorithm>
#include <csignal>
#include <filesystem>
#include <sys/signalfd.h>
#include <unistd.h>

#include "vmm/base/outside/given_socket.hpp"
#include "vmm/base/thread_kind.hpp"
#include "vmm/config/config_options.hpp"
#include "vmm/config/config_text.hpp"
#include "vmm/confine/confine.hpp"
#include "vmm/instance/logging.hpp"
#include "vmm/main_command.hpp"
#include "vmm/main_commands.hpp"
#include "vmm/registry/registry.hpp"
#include "vmm/template/service.hpp"

namespace inox::cli {
namespace {

constexpr const char* examples = R"(Examples:
  inox template snap --api-sock /tmp/t.sock --allow /srv/clones &
  inox ctl -s /tmp/t.sock spawn --id c1
  inox ctl -s /tmp/t.sock spawn --id web --count 10 --disk 'id=root,path=/srv/clones/{n}.img'
  inox ctl -s /tmp/t.sock clones
  inox ctl -s /tmp/t.sock events

inox ctl ID snapshot DIR makes the snapshot. A clone has a process of its own, which goes on
when the template ends. What spawn names must lie beneath --allow, or be named here.)";

/// Those of `inox run` that a template has, too.
bool is_ours(const CommandOption& option) {
    static constexpr std::string_view twins[] = {
        "/drives",  "/network-interfaces", "/vsock",          "/console",      "/shares",          "/inox/allow",
        "/inox/id", "/inox/api_sock",      "/inox/api_group", "/inox/seccomp", "/logger/log_path", "/logger/level"};
    return std::ranges::find(twins, option.twin) != std::end(twins);
}

struct Asked {
    ConfigFile file{initial_config(Dialect::inox)};
    std::string folder{};
    RestoredClock clock{RestoredClock::goes_on};
};

std::optional<int> read_words(Arguments words, Asked& asked) {
    Command command{"inox template",
                    "Loads the snapshot in the folder DIR once, and makes clones of its guest on request.", examples,
                    words};
    std::vector<CommandOption> options;
    std::ranges::copy_if(run_options(), std::back_inserter(options), is_ours);
    std::vector<std::vector<std::string>> values(options.size(), std::vector<std::string>(1));
    for (std::size_t i = 0; i < options.size(); ++i)
        add_option(command, options[i], values[i]);
    std::string clock;
    command.add("--clock", clock, "WHAT", "of clones: continue or realtime, as for inox run; default continue");
    command.add_positional("DIR", asked.folder, "the folder of the snapshot");
    if (const auto over = command.parse())
        return *over;
    if (asked.folder.empty())
        return report_problem(
            make_error(Errc::bad_option, "the folder is missing", "try: inox template DIR --api-sock /tmp/t.sock"));
    for (std::size_t i = 0; i < options.size(); ++i)
        if (command.has(options[i].name))
            for (const auto& value : values[i])
                if (auto applied = options[i].apply(options[i], value, asked.file); !applied)
                    return report_problem(std::move(applied).error());
    if (auto read = read_clock(clock))
        asked.clock = *read;
    else
        return report_problem(std::move(read).error());
    if (asked.file.api.socket.empty() && asked.file.api.id.empty())
        return report_problem(error_at("--api-sock", Errc::bad_option, "a template without an API makes no clones",
                                       "name a socket, or give it an --id"));
    std::error_code gone; // then relative paths stay so, and what opens them says what is wrong
    const auto here = std::filesystem::current_path(gone).string();
    make_paths_absolute(asked.file.config, here);
    for (auto& allowed : asked.file.allow)
        allowed.path = path_below(here, std::move(allowed.path));
    return std::nullopt;
}

/// Until a signal comes that ends it. Clones go on.
class Ends {
public:
    Result<void> watch(EventLoop& loop) {
        sigset_t set{};
        ::sigemptyset(&set);
        for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT})
            ::sigaddset(&set, signal);
        ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
        ::signal(SIGPIPE, SIG_IGN); // NOLINT: a client that leaves must not end it
        signals_.reset(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
        if (!signals_)
            return fail_errno(Errc::host_error, "signalfd failed");
        watch_ = TRY(loop.watch(signals_.get(), [&loop] { loop.stop(); }));
        return {};
    }

private:
    UniqueFd signals_{};
    Registration watch_{};
};

/// Once the first vCPU has entered its guest, which is a moment after the start.
class FirstInstruction {
public:
    explicit FirstInstruction(clones::Child& child) : child_{child} {}
    void started(EventLoop& loop) {
        loop_ = &loop;
        look();
    }

private:
    void look() {
        static constexpr std::chrono::microseconds moment{50};
        if (child_.begin == Machine::Begin::paused || child_.timeline.at(Timeline::Step::first_instruction) != 0)
            return child_.running({});
        later_ = loop_->after(moment, [this] { look(); });
    }

    clones::Child& child_;
    EventLoop* loop_{nullptr};
    Registration later_{};
};

int run_clone(clones::Child child) {
    RunPlan plan;
    if (!child.file.api.id.empty())
        plan.identity.id = child.file.api.id;
    confine::use_features(features_of(child.file));
    auto confinement = std::move(child.confinement);
    plan.confine = [&](const ConfigFile&) -> Result<std::unique_ptr<Confinement>> { return std::move(confinement); };
    plan.before_start = [&](Instance& instance) { instance.use_snapshot(std::move(child.from), child.begin); };
    EventLoop* loop = nullptr;
    FirstInstruction first{child};
    plan.companion = [&, api = control_api(child.file.api)](EventLoop& own,
                                                            Instance& instance) -> Result<Registration> {
        loop = &own;
        return api ? api(own, instance) : Registration{};
    };
    plan.on_started = [&] { first.started(*loop); };
    plan.start_failed = [&](const Error& error) {
        child.running(std::unexpected<Error>{error});
        return exit_code(error.code);
    };
    const int code = run(child.file, child.timeline, plan);
    child.running(fail(Errc::host_error, "the clone ended before its guest ran")); // unless something was said
    return code;
}

Result<int> serve(Asked asked) {
    auto& api = asked.file.api;
    TRY_VOID(use_log(asked.file.log));
    std::vector<std::string> own;
    std::optional<registry::Claim> claim;
    const auto folder = TRY(registry::folder());
    const auto given = given_socket::number(api.socket);
    if (!api.id.empty()) {
        claim.emplace(TRY(registry::Claim::take(api.id, given ? given_socket::path_of(*given) : api.socket)));
        own = {claim->path(), claim->socket()};
        if (!given)
            api.socket = claim->socket();
    }
    if (!given)
        own.push_back(api.socket);
    const auto seccomp = asked.file.run.seccomp;
    const api::ServerOptions options{.path = api.socket, .group = api.group, .max_descriptors = 64};
    const auto id = api.id;
    clones::Template::Plan plan{.file = asked.file, .folder = asked.folder, .clock = asked.clock, .run = run_clone};
    EventLoop loop; // the template watches for the ends of clones there until it goes
    const auto made = TRY(clones::Template::load(std::move(plan)));
    Ends ends;
    TRY_VOID(ends.watch(loop));
    TRY_VOID(made->watch(loop));
    const auto service = TRY(clones::Service::create(options, loop, *made, id));
    if (seccomp != Seccomp::off)
        TRY_VOID(confine_template(seccomp));
    TRY_VOID(made->confine(own, folder));
    loop.run();
    claim.reset(); // while there is somebody who removes its file
    return 0;
}

} // namespace

int template_command(Arguments words) {
    Asked asked;
    if (const auto over = read_words(words, asked))
        return *over;
    close_inherited(asked.file);
    auto code = serve(std::move(asked));
    return code ? *code : report_problem(std::move(code).error());
}

} // namespace inox::cli
