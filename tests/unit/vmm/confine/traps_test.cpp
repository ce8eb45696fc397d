// SPDX-License-Identifier: Apache-2.0
// What makes lists of system calls wrong although they look right.
#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <exception>
#include <linux/capability.h>
#include <linux/kvm.h>
#include <stdexcept>
#include <string>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <vector>

#include "tests/catch.hpp"
#include "tests/unit/vmm/confine/child.hpp"
#include "vmm/base/work_thread.hpp"
#include "vmm/confine/privileges.hpp"
#include "vmm/confine/sanitized.hpp"
#include "vmm/confine/tables/rule.hpp"

namespace inox::traps_test {

using namespace confine;

namespace {

constexpr ThreadKind confined_kinds[] = {
    ThreadKind::loop,     ThreadKind::vcpu,  ThreadKind::api,   ThreadKind::watchdog, ThreadKind::engine,
    ThreadKind::disk,     ThreadKind::iommu, ThreadKind::share, ThreadKind::assigned, ThreadKind::dump,
    ThreadKind::snapshot, ThreadKind::pages, ThreadKind::cloner};

int code_of(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : -1; }

bool same(const Condition& a, const Condition& b) {
    return a.argument == b.argument && a.mask == b.mask && a.value == b.value && a.differs == b.differs;
}

/// Whether `rules` let all pass that `wanted` lets pass.
bool covers(const Rules& rules, const Rule& wanted) {
    return std::ranges::any_of(rules, [&](const Rule& one) {
        return one.call == wanted.call && one.error == wanted.error &&
               (one.conditions.empty() || std::ranges::equal(one.conditions, wanted.conditions, same));
    });
}

/// Standard error of a child.
struct Pipe {
    int ends[2]{-1, -1};
    Pipe() { (void)!::pipe(ends); }
    ~Pipe() {
        ::close(ends[0]);
        if (ends[1] >= 0)
            ::close(ends[1]);
    }
    std::string text() {
        ::close(std::exchange(ends[1], -1));
        std::string out(4096, '\0');
        const auto size = ::read(ends[0], out.data(), out.size());
        out.resize(static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
        return out;
    }
};

} // namespace

TEST_CASE("of an ioctl's request, the low 32 bits count") {
    CHECK(code_of(in_child(ThreadKind::vcpu, 0, [] {
              constexpr unsigned long extended = 0xffffffff00000000UL | KVM_RUN; // as some libraries extend an int
              if (::syscall(SYS_ioctl, -1, extended, 0) == 0 || errno != EBADF)
                  ::_exit(1);
              if (::syscall(SYS_ioctl, -1, 0xffffffff00000000UL | KVM_GET_REGS, 0) == 0 || errno != EBADF)
                  ::_exit(2);
          })) == went_well);
    CHECK(code_of(in_child(ThreadKind::vcpu, 0, [] { ::syscall(SYS_ioctl, -1, KVM_RUN | 0x10000UL, 0); })) ==
          refusal_code);
}

TEST_CASE("clone3 does not exist, so that threads come by clone, whose flags a filter can see") {
    for (const auto kind : confined_kinds) {
        INFO(name_of(kind));
        CHECK(code_of(in_child(kind, vfio, [] {
                  ::_exit(::syscall(SYS_clone3, nullptr, 0) < 0 && errno == ENOSYS ? 30 : 31);
              })) == 30);
    }
    if (sanitized) {
        WARN("skipped: a thread's making is the sanitizer's");
        return;
    }
    CHECK(code_of(in_child(ThreadKind::loop, 0, [] {
              WorkThread work{ThreadKind::disk, "a thread of a test", "work"};
              if (!work.start())
                  ::_exit(1);
              work.post([] { ::_exit(40); });
              work.finish();
          })) == 40);
}

TEST_CASE("what the loop's threads may do, the loop may: they inherit its list") {
    for (Features features = 0; features <= all_features; ++features) {
        const auto loop = rules_of(ThreadKind::loop, features);
        for (const auto kind : {ThreadKind::watchdog, ThreadKind::disk, ThreadKind::iommu, ThreadKind::share,
                                ThreadKind::dump, ThreadKind::snapshot, ThreadKind::pages, ThreadKind::assigned}) {
            if (kind == ThreadKind::assigned && (features & vfio) == 0)
                continue;
            for (const auto& rule : rules_of(kind, features)) {
                INFO(name_of(kind) << " " << rule.call);
                CHECK((rule.error != 0 || covers(loop, rule)));
            }
        }
    }
}

TEST_CASE("what the threads of a clone may do, its template may: they inherit its list") {
    const auto cloner = rules_of(ThreadKind::cloner, 0);
    for (const auto kind : confined_kinds)
        for (const auto& rule : rules_of(kind, all_features)) {
            INFO(name_of(kind) << " " << rule.call);
            CHECK((rule.error != 0 || covers(cloner, rule)));
        }
}

TEST_CASE("a stop and a continuation end no thread that waits") {
    for (const auto kind : confined_kinds) {
        INFO(name_of(kind));
        const pid_t child = ::fork();
        if (child == 0) {
            ::alarm(60);
            if (!confine::confine({.exit_code = refusal_code}))
                ::_exit(1);
            std::thread{[&] {
                enter_thread(kind, "under-test");
                const timespec time{0, 300'000'000}; // waited for by restart_syscall after the stop
                ::nanosleep(&time, nullptr);
                ::_exit(went_well);
            }}.join();
        }
        const timespec moment{0, 60'000'000};
        for (int i = 0; i < 3; ++i) {
            ::nanosleep(&moment, nullptr);
            ::kill(child, SIGSTOP);
            ::kill(child, SIGCONT);
        }
        int status = -1;
        ::waitpid(child, &status, 0);
        CHECK(code_of(status) == went_well);
    }
}

TEST_CASE("a thread signals its own process only") {
    CHECK(code_of(in_child(ThreadKind::vcpu, 0, [] {
              ::_exit(::syscall(SYS_tgkill, ::getpid(), ::gettid(), 0) == 0 ? went_well : 1);
          })) == went_well);
    CHECK(code_of(in_child(ThreadKind::loop, vfio, [] { ::syscall(SYS_tgkill, ::getppid(), ::getppid(), 0); })) ==
          refusal_code);
}

TEST_CASE("a bug ends a confined thread as it would end any other") {
    for (const auto kind : confined_kinds) {
        INFO(name_of(kind));
        Pipe words;
        const int status = in_child(
            kind, 0, [] { throw std::runtime_error{"a bug"}; }, {}, words.ends[1]);
        CHECK((WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT));
        CHECK(words.text().find("a bug") != std::string::npos);
    }
}

TEST_CASE("memory comes and goes in every kind of thread") {
    if (sanitized) {
        WARN("skipped: memory is the sanitizer's");
        return;
    }
    for (const auto kind : confined_kinds) {
        INFO(name_of(kind));
        CHECK(code_of(in_child(kind, 0, [] {
                  for (const std::size_t size : {std::size_t{1000}, std::size_t{60'000}, std::size_t{4'000'000}}) {
                      std::vector<std::string> all;
                      for (int i = 0; i < 300; ++i)
                          all.emplace_back(size, 'x');
                      while (!all.empty()) // from behind, so that an arena shrinks
                          all.pop_back();
                  }
              })) == went_well);
    }
}

TEST_CASE("a refused call is told with its name, its thread and its arguments") {
    Pipe words;
    const int status = in_child(
        ThreadKind::engine, 0, [] { ::syscall(SYS_ptrace, 0x10L, 0x20L, 0x30L, 0x40L); },
        {.exit_code = 148,
         .log_line = "Shutting down VM after intercepting signal 31, code 1.",
         .log_line_with_number = "Shutting down VM after intercepting a bad syscall (%d)."},
        words.ends[1]);
    CHECK(code_of(status) == 148);
    const auto text = words.text();
    CHECK(text.find("inox: error: thread 'under-test' (engine) called ptrace(0x10, 0x20, 0x30, 0x40, ") == 0);
    CHECK(text.find("system call 101, which is not in its list [forbidden_call]\n") != text.npos);
    CHECK(text.find("Shutting down VM after intercepting signal 31, code 1.\n") != text.npos);
    CHECK(text.find("Shutting down VM after intercepting a bad syscall (101).\n") != text.npos);
    CHECK(std::string{call_name(SYS_ioctl)} == "ioctl");
    CHECK(std::string{call_name(-1)} == "unknown");
    CHECK(std::string{call_name(100000)} == "unknown");
}

TEST_CASE("somebody's SIGSYS is no refused call") {
    const int status = in_child(ThreadKind::loop, 0, [] { ::raise(SIGSYS); });
    CHECK((WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS));
}

TEST_CASE("a list that only logs lets pass, and off has none") {
    for (const auto refusal : {Refusal::log, Refusal::none})
        CHECK(code_of(in_child(ThreadKind::vcpu, 0, [] { ::_exit(::syscall(SYS_getppid) > 0 ? 50 : 51); },
                               {.refusal = refusal})) == 50);
    CHECK(code_of(in_child(ThreadKind::vcpu, 0, [] { ::syscall(SYS_getppid); })) == refusal_code);
}

TEST_CASE("a confined process has no privileges that it does not need, and gets none") {
    const auto look = [] {
        if (::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
            ::_exit(1);
        if (::prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
            ::_exit(2);
        __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
        __user_cap_data_struct sets[2]{};
        if (::syscall(SYS_capget, &header, sets) != 0 || (sets[0].permitted | sets[0].effective | sets[1].permitted |
                                                          sets[0].inheritable | sets[1].inheritable) != 0)
            ::_exit(3);
    };
    CHECK(code_of(in_child(ThreadKind::vcpu, 0, look, {.refusal = Refusal::none})) == went_well);
    CHECK(code_of(in_child(ThreadKind::vcpu, 0, [] { ::_exit(::prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 1 ? 60 : 61); },
                           {.refusal = Refusal::none, .visible = true})) == 60);
    constexpr std::uint64_t lock_memory = std::uint64_t{1} << CAP_IPC_LOCK;
    CHECK(capabilities_of(ThreadKind::vcpu, 0) == 0);
    CHECK(capabilities_of(ThreadKind::vcpu, vfio) == lock_memory); // a guest's IOMMU pins
    CHECK(capabilities_of(ThreadKind::engine, all_features) == 0);
}

} // namespace inox::traps_test
