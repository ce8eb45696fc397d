// SPDX-License-Identifier: Apache-2.0
#include "vmm/jail/program.hpp"

#include <array>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "vmm/base/host_files.hpp"
#include "vmm/base/timeline.hpp"
#include "vmm/config/config_text.hpp"
#include "vmm/jail/binds.hpp"
#include "vmm/jail/cgroup.hpp"
#include "vmm/jail/exec.hpp"
#include "vmm/jail/folders.hpp"
#include "vmm/jail/keeper.hpp"
#include "vmm/jail/namespaces.hpp"
#include "vmm/jail/words.hpp"

namespace inox::jail {
namespace {

class Program {
public:
    explicit Program(const Options& options) : options_{options} {
        const auto folder = options.chroot_base + "/" + options.exec_name() + "/" + options.id;
        root_ = folder + "/root";
        if (options.clean_up)
            traces_.tree = folder;
    }

    Result<int> become() {
        const auto groups = TRY(Cgroups::plan(options_));
        if (options_.clean_up) {
            traces_.cgroups = groups.own();
            keeper_ = TRY(Keeper::start(traces_));
        }
        const auto misc = userfaultfd_minor(host::read_text("/proc/misc"));
        devices_ = TRY(look_at(options_.devices));
        TRY_VOID(make_root());
        proc_ = open_proc();
        TRY_VOID(enter_network(options_.netns));
        TRY_VOID(set_limits(options_.limits));
        TRY_VOID(groups.make());
        TRY_VOID(groups.join(::getpid()));
        UniqueFd nothing;
        if (options_.daemonize)
            nothing = TRY(open_nothing());
        TRY_VOID(enter_root());
        TRY_VOID(make_nodes(misc));
        TRY_VOID(binds_.put());
        if (options_.daemonize && TRY(daemonize(nothing)))
            return 0;
        jailer_cpu_ = clock_ns(CLOCK_PROCESS_CPUTIME_ID) / 1000;
        if (options_.new_pid_ns && TRY(leave_for_first_process()))
            return 0;
        if (!options_.new_pid_ns)
            TRY_VOID(write_pid(::getpid()));
        TRY_VOID(keeper_.watch_me());
        TRY_VOID(drop_privileges(options_, proc_.get(), false));
        return execute();
    }

private:
    /// The folder, and a copy of the program in it: two guests do not share the pages of one file.
    Result<void> make_root() {
        const UniqueFd base{::open(options_.chroot_base.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)}; // NOLINT
        if (!base)
            return fail_os("Failed to open " + options_.chroot_base);
        const auto root = TRY(make_folders(base.get(), root_.substr(options_.chroot_base.size())));
        return copy_program(root);
    }

    Result<void> copy_program(const UniqueFd& root) {
        const auto target = root_ + "/" + options_.exec_name();
        struct stat status {};
        const UniqueFd from{::open(options_.exec_file.c_str(), O_RDONLY | O_CLOEXEC)}; // NOLINT(*-vararg)
        if (!from || ::fstat(from.get(), &status) != 0)
            return fail_os("Failed to open " + options_.exec_file);
        const UniqueFd copy{::openat(root.get(), options_.exec_name().c_str(),
                                     O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, status.st_mode & 07777)}; // NOLINT
        struct stat there {};
        if (!copy || ::fstat(copy.get(), &there) != 0)
            return fail_os("Failed to open " + target);
        if (there.st_nlink > 1)
            return fail(Errc::host_error, "Detected hard link at: " + target, "remove it");
        if (::fchown(copy.get(), options_.uid, options_.gid) != 0)
            return fail_os("Failed to change owner for " + target);
        ssize_t copied = ::ftruncate(copy.get(), 0) == 0 ? 1 : -1;
        while (copied > 0)
            copied = ::sendfile(copy.get(), from.get(), nullptr, std::size_t{1} << 30);
        if (copied < 0)
            return fail_os("Failed to copy " + options_.exec_file + " to " + target);
        return {};
    }

    Result<void> enter_root() {
        TRY_VOID(leave_mounts());
        std::vector<Bind> binds;
        for (const auto& text : options_.binds)
            binds.push_back(parse_bind(text));
        binds_ = TRY(Binds::open(binds));
        // What was mounted below the root before is in it
        if (::mount(root_.c_str(), root_.c_str(), nullptr, MS_BIND | MS_REC, nullptr) != 0)
            return fail_os("Failed to bind mount the jail root directory");
        if (::chdir(root_.c_str()) != 0)
            return fail_os("Failed to change current directory");
        return pivot_here();
    }

    Result<void> make_nodes(std::optional<unsigned> userfaultfd) {
        constexpr unsigned misc = 10;
        const Owner owner{options_.uid, options_.gid};
        for (const char* folder : {"/", "/dev/net", "/run"})
            TRY_VOID(make_owned_folders(folder, owner));
        TRY_VOID(claim_tree());
        if (auto made = make_device("/dev/net/tun", S_IFCHR, ::makedev(misc, 200), owner); !made) {
            TRY_VOID(keeper_.owns_tree(false));
            return made;
        }
        TRY_VOID(make_device("/dev/kvm", S_IFCHR, ::makedev(misc, 232), owner));
        if (auto made = make_device("/dev/urandom", S_IFCHR, ::makedev(1, 9), owner); !made)
            std::fprintf(stderr, "Warning! Could not create /dev/urandom device inside jailer: %s.\n",
                         made.error().what.c_str());
        if (userfaultfd)
            TRY_VOID(make_device("/dev/userfaultfd", S_IFCHR, ::makedev(misc, *userfaultfd), owner));
        for (const auto& device : devices_)
            TRY_VOID(make_device(device.path, device.kind, device.number, owner));
        return {};
    }

    /// A folder with this device in it is used by another jail, or was; from here on it is ours.
    Result<void> claim_tree() const { return host::exists("/dev/net/tun") ? Result<void>{} : keeper_.owns_tree(true); }

    /// True in the processes that are to end.
    static Result<bool> daemonize(const UniqueFd& nothing) {
        for (int i = 0; i < 2; ++i) {
            const pid_t child = ::fork();
            if (child < 0)
                return fail_os("Failed to daemonize");
            if (child > 0)
                return true;
            if (i == 0 && ::setsid() < 0)
                return fail_os("Failed to daemonize");
        }
        use_nothing(nothing);
        return false;
    }

    /// True in the process that is to end, false in the first one of a PID namespace, which waits for its pid file: a
    /// program that nobody knows of would stay when the jailer is killed.
    Result<bool> leave_for_first_process() const {
        const bool leads_session = ::getsid(0) == ::getpid();
        std::array<int, 2> pipe{};
        if (::pipe2(pipe.data(), O_CLOEXEC) != 0)
            return fail_os("Failed to make a pipe");
        const UniqueFd known{pipe[0]};
        UniqueFd tell{pipe[1]};
        const auto child = static_cast<pid_t>(::syscall(SYS_clone, CLONE_NEWPID, nullptr, nullptr, nullptr, 0));
        if (child < 0)
            return fail_os("Failed cloning into a new child process");
        if (child > 0) {
            TRY_VOID(write_pid(child));
            TRY_VOID(write_all(tell.get(), "k"));
            return true;
        }
        tell.reset();
        char word = 0;
        if (::read(known.get(), &word, 1) != 1)
            ::_exit(1);
        if (leads_session)
            ::setsid(); // the end of the jailer would send SIGHUP
        return false;
    }

    [[nodiscard]] Result<void> write_pid(pid_t pid) const {
        const auto path = "/" + options_.exec_name() + ".pid";
        const UniqueFd file{::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)}; // NOLINT(*-vararg)
        if (!file)
            return fail_os("Failed to open file " + path);
        return write_all(file.get(), std::to_string(pid));
    }

    [[nodiscard]] Result<int> execute() const {
        std::vector<std::string> words{"/" + options_.exec_name(), "--id", options_.id};
        const auto add = [&](const char* name, std::uint64_t us) {
            words.emplace_back(name);
            words.push_back(std::to_string(us));
        };
        add("--start-time-us", started_);
        add("--start-time-cpu-us", clock_ns(CLOCK_PROCESS_CPUTIME_ID) / 1000);
        add("--parent-cpu-time-us", jailer_cpu_);
        words.insert(words.end(), options_.words.begin(), options_.words.end());
        execute_program(words, {});
        return fail_os("Failed to exec into Firecracker",
                       errno == ENOENT ? "a program in a jail finds no libraries: link it statically" : "");
    }

    const Options& options_;
    std::string root_;
    std::uint64_t started_{clock_ns(CLOCK_MONOTONIC) / 1000};
    std::uint64_t jailer_cpu_{};
    Traces traces_{};
    Keeper keeper_{};
    Binds binds_{};
    std::vector<DeviceFile> devices_{};
    UniqueFd proc_{};
};

} // namespace

Result<int> become_program(const Options& options) {
    if (::close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_UNSHARE) != 0)
        return fail_os("Failed to sanitize the Jailer process");
    return Program{options}.become();
}

} // namespace inox::jail
