// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/vcpu_thread.hpp"

#include <csignal>
#include <cstring>
#include <pthread.h>
#include <system_error>

#include "vmm/base/hex.hpp"
#include "vmm/base/thread_failure.hpp"
#include "vmm/base/thread_kind.hpp"
#include "vmm/machine/no_progress.hpp"
#include "vmm/machine/run_failure.hpp"
#include "vmm/machine/triple_fault.hpp"

namespace inox {
namespace {

template <class... F> struct Overloaded : F... { using F::operator()...; };

int kick_signal() { return SIGRTMIN; }

// The handler does nothing: that the signal arrives is enough to end KVM_RUN and blocking calls with EINTR.
void install_kick_handler() {
    static const bool installed = [] {
        struct sigaction action {};
        action.sa_handler = [](int) {};
        return ::sigaction(kick_signal(), &action, nullptr) == 0;
    }();
    (void)installed;
}

void serve_port(PortBus& bus, const vm_exit::Port& exit) noexcept {
    for (std::size_t at = 0; at < exit.data.size(); at += exit.size) {
        const auto one = exit.data.subspan(at, exit.size);
        if (exit.write)
            bus.write(exit.port, one);
        else
            bus.read(exit.port, one);
    }
}

void serve_mmio(MemoryBus& bus, const vm_exit::Mmio& exit) noexcept {
    if (exit.write)
        bus.write(exit.address, exit.data);
    else
        bus.read(exit.address, exit.data);
}

std::string hex(std::span<const std::uint8_t> bytes) {
    std::string out;
    for (const auto byte : bytes)
        out += format("%s%02x", out.empty() ? "" : " ", byte);
    return out;
}

} // namespace

VcpuThread::VcpuThread(std::unique_ptr<Vcpu> vcpu, VcpuContext context)
    : vcpu_{std::move(vcpu)}, context_{std::move(context)} {}

VcpuThread::~VcpuThread() {
    if (thread_.joinable()) {
        kick();
        thread_.join();
    }
}

Result<void> VcpuThread::start(std::latch& all_confined) {
    install_kick_handler();
    try {
        thread_ = std::thread{[this, &all_confined] {
            enter_thread(ThreadKind::vcpu, format("vcpu%u", vcpu_->id()).c_str());
            all_confined.arrive_and_wait();
            loop();
        }};
    } catch (const std::system_error& error) {
        return fail_thread("a vCPU's thread", error);
    }
    return {};
}

void VcpuThread::kick() noexcept {
    vcpu_->interrupt();
    if (thread_.joinable())
        ::pthread_kill(thread_.native_handle(), kick_signal());
}

void VcpuThread::count_exits() {
    if (exit_table_)
        return;
    exit_table_ = std::make_unique<ExitTable>();
    counting_.store(exit_table_.get(), std::memory_order_release);
}

void VcpuThread::ask_stuck(bool kicked) noexcept {
    stuck_.store(-1, std::memory_order_release);
    asked_.store(true, std::memory_order_release);
    if (kicked)
        kick();
}

void VcpuThread::ask_deaf() noexcept {
    deaf_.store(-1, std::memory_order_release);
    asked_deaf_.store(true, std::memory_order_release);
    kick();
}

void VcpuThread::loop() noexcept {
    for (bool first = true;; first = false) {
        // Cleared before the gate is read: a kick that follows a change of the gate cannot be lost.
        vcpu_->clear_interrupt();
        if (context_.gate.pausing() && !finish_exit())
            return;
        if (!context_.gate.pass(vcpu_->id()))
            return;
        if (asked_.exchange(false, std::memory_order_acq_rel)) {
            look_where_it_stands();
            stuck_.store(vcpu_->stuck() ? 1 : 0, std::memory_order_release);
        }
        if (asked_deaf_.load(std::memory_order_relaxed) && asked_deaf_.exchange(false, std::memory_order_acq_rel))
            deaf_.store(vcpu_->deaf() ? 1 : 0, std::memory_order_release);
        if (first)
            context_.timeline.mark(Timeline::Step::first_instruction);
        const VmExit exit = vcpu_->run();
        exits_.fetch_add(1, std::memory_order_relaxed);
        if (auto* table = counting_.load(std::memory_order_acquire))
            table->count(exit);
        if (!handle(exit))
            return;
    }
}

bool VcpuThread::finish_exit() noexcept {
    for (;;) {
        vcpu_->interrupt(); // KVM_RUN then finishes the access, and enters no guest
        const VmExit exit = vcpu_->run();
        if (std::holds_alternative<vm_exit::Interrupted>(exit))
            return true;
        if (!handle(exit))
            return false;
    }
}

void VcpuThread::look_where_it_stands() noexcept {
    const auto regs = vcpu_->regs();
    const auto place = fault_place(*vcpu_, context_.ram);
    const bool suspect = regs && place && vcpu_->mp_state().value_or(KVM_MP_STATE_HALTED) == KVM_MP_STATE_RUNNABLE &&
                         uses_descriptors(place->bytes);
    const bool same = suspect && std::memcmp(&*regs, &stood_at_, sizeof stood_at_) == 0;
    if (suspect) {
        stood_at_ = *regs;
        instruction_ = place->bytes;
    }
    standing_.store(same ? standing_.load(std::memory_order_relaxed) + 1 : suspect ? 1 : 0, std::memory_order_release);
}

Error VcpuThread::standing_error() const { return no_progress(vcpu_->id(), stood_at_.rip, instruction_); }

bool VcpuThread::handle(const VmExit& exit) noexcept {
    return std::visit(Overloaded{
                          [&](const vm_exit::Port& port) {
                              serve_port(context_.ports, port);
                              return true;
                          },
                          [&](const vm_exit::Mmio& mmio) {
                              serve_mmio(context_.memory, mmio);
                              return true;
                          },
                          [&](const vm_exit::Interrupted&) {
                              // Nobody here asked: the process was stopped (SIGSTOP, a freezer), and goes on.
                              if (!vcpu_->interrupt_asked())
                                  vcpu_->tell_clock_stopped();
                              return true;
                          },
                          [](const vm_exit::Halt&) { return true; },
                          [&](const vm_exit::MsrAccess& msr) {
                              access_msr(msr);
                              return true;
                          },
                          [&](const vm_exit::EmulationFailure& failure) { return emulate(failure); },
                          [&](const vm_exit::Debug& debug) {
                              if (context_.debugger)
                                  context_.debugger->on_debug_exit(*vcpu_, debug);
                              return true;
                          },
                          [&](const vm_exit::SystemEvent& event) {
                              if (event.type == KVM_SYSTEM_EVENT_RESET)
                                  context_.guest.reset();
                              else
                                  context_.guest.power_off();
                              return true;
                          },
                          [&](const auto&) {
                              context_.on_fatal(describe(exit));
                              return false;
                          },
                      },
                      exit);
}

void VcpuThread::access_msr(const vm_exit::MsrAccess& msr) noexcept {
    if (!context_.enqueue || msr.index != iommu::msr_ia32_pasid ||
        (msr.write && !iommu::ia32_pasid_writable(*msr.data)))
        *msr.failed = 1;
    else if (msr.write)
        ia32_pasid_ = *msr.data;
    else
        *msr.data = ia32_pasid_;
}

bool VcpuThread::emulate(const vm_exit::EmulationFailure& failure) noexcept {
    if (context_.enqueue &&
        context_.enqueue->emulate(*vcpu_, failure, ia32_pasid_) == EnqueueEmulator::Verdict::resumed)
        return true;
    context_.on_fatal(describe(failure));
    return false;
}

Error VcpuThread::describe(const VmExit& exit) const {
    const auto regs = vcpu_->regs();
    const std::string at = regs ? format("RIP %#llx", regs->rip) : std::string{"unknown RIP"};
    const std::string who = format("vCPU %u", vcpu_->id());
    return std::visit(
        Overloaded{
            [&](const vm_exit::Shutdown&) {
                return triple_fault(vcpu_->id(), fault_place(*vcpu_, context_.ram), host_has_svm());
            },
            [&](const vm_exit::EmulationFailure& failure) {
                const auto bytes = std::span{failure.bytes}.first(failure.size);
                return Error{Errc::guest_emulation_failure,
                             failure.suberror == KVM_INTERNAL_ERROR_EMULATION
                                 ? format("%s: KVM cannot emulate the instruction at %s, bytes: %s", who.c_str(),
                                          at.c_str(), bytes.empty() ? "not reported" : hex(bytes).c_str())
                                 : format("%s: KVM internal error %u at %s", who.c_str(), failure.suberror, at.c_str()),
                             {}, // Machine::report_end() adds it, as it depends on the kind of KVM
                             {},
                             0};
            },
            [&](const vm_exit::EntryFailure& failure) {
                return make_error(Errc::guest_entry_failed,
                                  format("%s cannot enter the guest at %s: hardware reason %#llx", who.c_str(),
                                         at.c_str(), hex(failure.hardware_reason)),
                                  "see the host's kernel log");
            },
            [&](const vm_exit::Failed& failed) { return run_failure(vcpu_->id(), at, failed, context_.ram); },
            [&](const vm_exit::Unknown& unknown) {
                return make_error(
                    Errc::guest_entry_failed,
                    format("%s: unknown exit %u of KVM_RUN at %s", who.c_str(), unknown.reason, at.c_str()),
                    "use a host kernel this version of inox knows");
            },
            [&](const auto&) { return make_error(Errc::internal, who + ": unexpected exit"); },
        },
        exit);
}

} // namespace inox
