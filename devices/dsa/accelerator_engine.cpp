// SPDX-License-Identifier: Apache-2.0
// The engines: which descriptor is next, and how it ends.
#include <atomic>
#include <chrono>
#include <immintrin.h>
#include <pthread.h>

#include "devices/dsa/accelerator.hpp"

namespace inox::devices::dsa {
namespace {

/// How long an engine that just had work looks for more before it sleeps: waking it costs the submitter a system call.
constexpr std::chrono::microseconds linger{15};

const DmaMemory* memory_of(const Submission& submission, const DmaMemory& plain) {
    if (submission.space)
        return &submission.space->memory(submission.descriptor.privileged());
    return submission.by_pasid ? nullptr : &plain;
}

/// Writes the status last, because the status tells the guest that the rest is there.
bool write_record(const DmaMemory& memory, std::uint64_t address, const CompletionRecord& record) {
    const auto hold = memory.hold();
    const auto range = Range<Iova>::sized(Iova{address}, completion_size);
    thread_local std::vector<iovec> pieces;
    pieces.clear();
    TranslationLimit limit{1, 1};
    // A record is aligned, so it lies in one page and in one piece.
    if (!range || memory.translate(*range, Access::write, pieces, limit) != Translated::whole)
        return false;
    auto* const to = static_cast<std::byte*>(pieces.front().iov_base);
    const auto bytes = std::as_bytes(std::span{&record, 1});
    std::memcpy(to + 1, bytes.data() + 1, completion_size - 1);
    std::atomic_ref{*reinterpret_cast<std::uint8_t*>(to)}.store(record.status, std::memory_order_release); // NOLINT
    memory.wrote(to, completion_size);
    return true;
}

} // namespace

struct Accelerator::Execution {
    Engine& engine;
    const Submission& submission;
    const DmaMemory& memory;
    const Limits& limits;
};

/// How a descriptor was judged.
struct Accelerator::Verdict {
    Status status{Status::none};      ///< none: it may be executed
    std::optional<unsigned> vector{}; ///< the interrupt after its completion, if it asked for one and may
};

Limits Accelerator::limits_of(const WorkQueue& queue) const {
    return {queue.max_transfer(), queue.max_batch(), (gencfg_ & gencfg_user_interrupts) != 0 || !queue.pasid_enabled(),
            bus_.privileged_mode || !queue.pasid_enabled(), false};
}

/// Takes as many descriptors of a queue in each round as its priority says.
std::optional<Submission> Accelerator::take(Engine& engine) {
    for (const bool refill : {false, true}) {
        if (refill)
            for (const unsigned index : engine.queues)
                queues_[index].credit = queues_[index].priority();
        for (std::size_t i = 0; i < engine.queues.size(); ++i) {
            const std::size_t at = (engine.next + i) % engine.queues.size();
            auto& queue = queues_[engine.queues[at]];
            if (queue.credit == 0 || !queue.ready())
                continue;
            --queue.credit;
            engine.next = at;
            auto submission = queue.pop();
            engine.running = true;
            engine.queue = engine.queues[at];
            engine.number = submission.number;
            engine.pasid =
                submission.by_pasid && submission.space ? std::optional{submission.space->pasid()} : std::nullopt;
            engine.at_rest = false;
            engine.cancelled = false;
            engine.interrupted.store(false, std::memory_order_relaxed);
            return submission;
        }
    }
    return std::nullopt;
}

void Accelerator::interrupt_engines() {
    for (auto& engine : engines_)
        engine->interrupted.store(engine->cancelled || paused_, std::memory_order_relaxed);
}

/// Sleeps until there is a reason to look again.
void Accelerator::rest(Engine& engine, std::unique_lock<std::mutex>& lock) {
    engine.at_rest = true;
    rested_.notify_all();
    work_.wait(lock);
    engine.at_rest = false;
}

/// Called between two pieces of work; false when the engine must abort.
bool Accelerator::go_on(Engine& engine) noexcept {
    std::unique_lock lock{mutex_};
    while (paused_ && !engine.cancelled)
        rest(engine, lock);
    return !engine.cancelled;
}

void Accelerator::work(Engine& engine) noexcept {
    using Clock = std::chrono::steady_clock;
    ::pthread_setname_np(::pthread_self(), "dsa-engine");
    std::unique_lock lock{mutex_};
    auto idle_since = Clock::time_point{};
    while (!stopping_) {
        if (paused_) {
            rest(engine, lock);
            continue;
        }
        auto submission = take(engine);
        if (!submission) {
            const auto seen = submissions_.load(std::memory_order_relaxed);
            lock.unlock();
            while (submissions_.load(std::memory_order_relaxed) == seen && Clock::now() - idle_since < linger)
                _mm_pause();
            lock.lock();
            submission = paused_ ? std::nullopt : take(engine);
            if (!submission) {
                if (!stopping_)
                    rest(engine, lock);
                continue;
            }
        }
        const Limits limits = limits_of(queues_[engine.queue]);
        const bool bus_master = bus_.bus_master;
        lock.unlock();
        execute(engine, *submission, limits, bus_master);
        submission.reset(); // releases the PASID
        Raise raise;
        lock.lock();
        engine.running = false;
        queues_[engine.queue].finished();
        try_finish(raise);
        if (raise.vectors != 0) {
            lock.unlock();
            deliver(raise);
            lock.lock();
        }
        if (engines_.size() > 1)
            work_.notify_all(); // a drain on another engine may have waited for this
        idle_since = Clock::now();
    }
    engine.at_rest = true;
    rested_.notify_all();
}

void Accelerator::execute(Engine& engine, const Submission& submission, const Limits& limits,
                          bool bus_master) noexcept {
    const auto& descriptor = submission.descriptor;
    const DmaMemory* memory = memory_of(submission, context_.memory);
    if (!memory || !bus_master) {
        const auto code = memory ? Status::hardware_error : Status::completion_not_translated;
        report_error({.code = static_cast<std::uint8_t>(code),
                      .queue = engine.queue,
                      .descriptor = &descriptor,
                      .address = descriptor.completion});
        const std::lock_guard lock{mutex_};
        ++queues_[engine.queue].counts.failed;
        ++queues_[engine.queue].counts.completed;
        return;
    }
    const Execution execution{engine, submission, *memory, limits};
    Operation operation{*memory, engine, *engine.copier};
    const Verdict verdict = judge(execution, descriptor, limits);
    const Outcome outcome = verdict.status != Status::none         ? failed(verdict.status)
                            : descriptor.opcode() == Opcode::batch ? run_batch(operation, execution)
                                                                   : operation.run(descriptor);
    conclude(execution, descriptor, outcome, verdict.vector, {});
}

Accelerator::Verdict Accelerator::judge(const Execution& execution, const Descriptor& descriptor,
                                        const Limits& limits) const {
    Verdict verdict{check(descriptor, limits), vector_of(execution, descriptor)};
    if (descriptor.has(flag::completion_address_valid) && !is_aligned(descriptor.completion, completion_size))
        verdict.status = Status::completion_alignment;
    else if (verdict.status == Status::none && descriptor.has(flag::request_interrupt) && !verdict.vector)
        verdict.status = Status::interrupt_handle;
    return verdict;
}

/// The only code that looks at an interrupt handle: it is a vector's number, and the vector must be open to this PASID.
std::optional<unsigned> Accelerator::vector_of(const Execution& execution, const Descriptor& descriptor) const {
    const unsigned vector = descriptor.interrupt_handle;
    const bool privileged = descriptor.privileged() && execution.limits.privileged_mode;
    if (!descriptor.has(flag::request_interrupt) || vector == 0 || vector >= vectors() ||
        (!privileged && !execution.limits.user_interrupts))
        return std::nullopt;
    const std::lock_guard lock{mutex_};
    const auto& permission = permissions_[vector];
    const auto& space = execution.submission.space;
    const bool open = space ? permission.space && permission.space->pasid() == space->pasid()
                            : (permission.word & permission_pasid_enable) == 0;
    return open ? std::optional{vector} : std::nullopt;
}

Outcome Accelerator::run_batch(Operation& operation, const Execution& execution) {
    const auto& batch = execution.submission.descriptor;
    Limits limits = execution.limits;
    limits.inside_batch = true;
    bool failures = false;
    const auto end = [](Status status, std::uint32_t done) {
        Outcome out = failed(status);
        out.record.bytes_completed = done;
        return out;
    };
    for (std::uint32_t index = 0; index < batch.size; ++index) {
        if (!execution.engine.go_on()) {
            Outcome out;
            out.cancelled = true;
            return out;
        }
        const std::uint64_t from = batch.source + std::uint64_t{index} * descriptor_size;
        std::optional<Descriptor> descriptor;
        {
            const auto hold = execution.memory.hold();
            descriptor = execution.memory.read<Descriptor>(Iova{from});
        }
        if (!descriptor) {
            Outcome out = end(Status::batch_page_fault, index);
            out.record.fault_address = from;
            return out;
        }
        if (failures && descriptor->has(flag::fence))
            return end(Status::batch_failures, index);
        descriptor->pasid_word = batch.pasid_word; // PASID and PRIV are the batch's, whatever the list contains
        const Verdict verdict = judge(execution, *descriptor, limits);
        const Outcome outcome = verdict.status == Status::none ? operation.run(*descriptor) : failed(verdict.status);
        if (outcome.cancelled)
            return outcome;
        failures = failures || !outcome.succeeded();
        conclude(execution, *descriptor, outcome, verdict.vector, static_cast<std::uint16_t>(index));
    }
    return end(failures ? Status::batch_failures : Status::success, batch.size);
}

void Accelerator::conclude(const Execution& execution, const Descriptor& descriptor, const Outcome& outcome,
                           std::optional<unsigned> vector, std::optional<std::uint16_t> batch_index) {
    const unsigned queue = execution.engine.queue;
    const auto status = static_cast<Status>(outcome.record.status & ~status_write_fault);
    {
        const std::lock_guard lock{mutex_};
        auto& counts = queues_[queue].counts;
        if (outcome.cancelled) {
            ++counts.aborted;
            return;
        }
        ++counts.completed;
        if (status == Status::page_fault || status == Status::batch_page_fault)
            ++counts.faulted;
        else if (status != Status::success && status != Status::success_false_predicate)
            ++counts.failed;
    }
    const bool writable = descriptor.has(flag::completion_address_valid) && status != Status::completion_alignment;
    SoftwareError error{.queue = queue, .descriptor = &descriptor, .batch_index = batch_index};
    if (writable && (descriptor.has(flag::request_completion) || !outcome.succeeded())) {
        if (!write_record(execution.memory, descriptor.completion, outcome.record)) {
            error.code = static_cast<std::uint8_t>(Status::completion_not_translated);
            error.address = descriptor.completion;
            error.write = true;
        }
    } else if (!outcome.succeeded()) {
        error.code = outcome.record.status;
        error.address = outcome.record.fault_address;
    }
    if (error.code != 0)
        report_error(error);
    if (vector && status != Status::invalid_flags)
        deliver({1U << *vector});
}

} // namespace inox::devices::dsa
