// SPDX-License-Identifier: Apache-2.0
#include "vmm/confine/violation.hpp"

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>
#include <poll.h>
#include <span>
#include <string_view>
#include <ucontext.h>
#include <unistd.h>

#include "vmm/base/log_sink.hpp"

namespace inox::confine {
namespace {

constexpr int sys_seccomp = 1; ///< si_code of a refused call
constexpr int patience = 25;   ///< ms, for the reader of a pipe

Plan plan_in_use; ///< written before the handler is installed

/// Text in a fixed buffer, with nothing that a signal handler may not do.
class Line {
public:
    Line& add(std::string_view text) noexcept {
        const auto room = std::min(text.size(), bytes_.size() - used_);
        std::memcpy(bytes_.data() + used_, text.data(), room);
        used_ += room;
        return *this;
    }
    Line& number(std::uint64_t value, unsigned base = 10) noexcept {
        std::array<char, 24> digits{};
        std::size_t at = digits.size();
        do
            digits[--at] = "0123456789abcdef"[value % base];
        while ((value /= base) != 0);
        return add({digits.data() + at, digits.size() - at});
    }
    /// Standard error may be shared with a shell, and a pipe may be full.
    void write_to(int fd) const noexcept {
        pollfd poll{fd, POLLOUT, 0};
        if (::poll(&poll, 1, patience) == 1)
            (void)!::write(fd, bytes_.data(), used_);
    }

private:
    std::array<char, 512> bytes_{};
    std::size_t used_{0};
};

void write_log(const Line& line) noexcept {
    if (const int fd = log::sink_fd(); fd != STDERR_FILENO)
        line.write_to(fd);
}

void add_arguments(Line& line, const greg_t* registers) noexcept {
    constexpr std::array in_order{REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9};
    line.add("(");
    for (const int one : in_order)
        line.add(one == REG_RDI ? "0x" : ", 0x").number(static_cast<std::uint64_t>(registers[one]), 16);
    line.add(")");
}

void on_sigsys(int signal, siginfo_t* info, void* context) {
    if (plan_in_use.before_end != nullptr)
        plan_in_use.before_end();
    if (info->si_code != sys_seccomp) { // somebody's kill(2)
        ::signal(signal, SIG_DFL);
        ::raise(signal);
        return;
    }
    const auto& thread = this_thread();
    Line line;
    line.add("inox: error: thread '").add(thread.name.data()).add("' (").add(name_of(thread.kind)).add(") called ");
    line.add(call_name(info->si_syscall));
    add_arguments(line, static_cast<const ucontext_t*>(context)->uc_mcontext.gregs);
    line.add(", system call ").number(static_cast<unsigned>(info->si_syscall));
    line.add(", which is not in its list [").add(refusal_name).add("]\n");
    line.add(
        "  hint: the guest may have taken inox over; if not, --seccomp log lets the call pass, and please report it\n");
    line.write_to(STDERR_FILENO);
    write_log(line);
    if (plan_in_use.log_line != nullptr) {
        Line more;
        more.add(plan_in_use.log_line).add("\n");
        const std::string_view text{plan_in_use.log_line_with_number};
        const auto at = text.find("%d");
        more.add(text.substr(0, at)).number(static_cast<unsigned>(info->si_syscall)).add(text.substr(at + 2)).add("\n");
        more.write_to(log::sink_fd());
    }
    ::_exit(plan_in_use.exit_code);
}

} // namespace

void end_on_violation(const Plan& plan) noexcept {
    plan_in_use = plan;
    struct sigaction action {};
    action.sa_sigaction = on_sigsys;
    action.sa_flags = SA_SIGINFO;
    ::sigfillset(&action.sa_mask);
    ::sigaction(SIGSYS, &action, nullptr);
}

} // namespace inox::confine
