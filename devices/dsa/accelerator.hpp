// SPDX-License-Identifier: Apache-2.0
// The accelerator without its bus: registers, commands, queues, and the engines that work.
//
// Registers and portals are used by vCPU threads, which never wait: a command that has to wait for work stays active
// and is finished by the engine that ends the last of it. Engines are threads of the device.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "devices/dsa/operations.hpp"
#include "devices/dsa/work_queue.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/log.hpp"

namespace inox {
class State;
}

namespace inox::devices::dsa {

/// What the function's configuration space says. Any combination may be seen between two writes of the guest.
struct BusState {
    bool bus_master{};
    bool pasid{};
    bool privileged_mode{};
    bool ats{};
    bool page_requests{};
};

struct QueueInfo {
    unsigned index{};
    WorkQueue::State state{};
    bool dedicated{};
    std::uint32_t size{};
    std::uint32_t threshold{};
    std::size_t occupancy{};
    std::optional<iommu::GuestPasid> pasid{}; ///< of a dedicated queue
    QueueCounts counts{};
};

struct AcceleratorContext {
    const DmaMemory& memory; ///< what the function reaches without PASID
    Spaces* spaces;          ///< null: no PASIDs in this machine
    /// From any thread, with no lock of the accelerator held.
    std::function<void(unsigned vector)> interrupt;
    /// One per engine; null: the CPU copies.
    std::function<std::unique_ptr<Copier>()> make_copier{};
};

class Accelerator {
public:
    Accelerator(const Shape& shape, AcceleratorContext context);
    /// Aborts work and joins the engines.
    ~Accelerator();
    Accelerator(const Accelerator&) = delete;
    Accelerator& operator=(const Accelerator&) = delete;

    /// Starts the engines. Once.
    Result<void> start();
    /// Aborts everything and gives all PASIDs back; nothing is executed any more.
    void stop() noexcept;
    /// Returns when no engine touches memory or interrupts: each has ended its descriptor, or rests between two
    /// pieces of it, the size of Transfer::chunk_size at most. What is submitted meanwhile waits.
    void pause() noexcept;
    /// Goes on where pause() left off.
    void resume() noexcept;
    /// All that was submitted is done, and so is the command that waited for it; else engines are at work on it, also
    /// after pause(). Ask again until it is true, and submit nothing.
    [[nodiscard]] bool drain() noexcept;
    /// Registers, and which queues are on. Saving: after drain(). Restoring: into one that was never configured; PASIDs
    /// and the bus state are there.
    void state(State& state);
    /// A function-level reset: registers as after power-on, all work aborted without a trace. Does not wait; where an
    /// engine is at work CMDSTS is active until it has let go.
    void reset_function() noexcept;

    [[nodiscard]] const Shape& shape() const { return shape_; }
    [[nodiscard]] unsigned vectors() const { return shape_.queues + 1; }
    void set_bus_state(const BusState& state) noexcept;
    /// The PASID is being freed: its work is aborted, a queue configured with it goes off, and every reference to it is
    /// given back, by the engine where one is at it. Does not wait.
    void forget(iommu::HostPasid pasid) noexcept;

    // BAR 0, up to reg::registers_end. Words of 32 bits, or two at once; anything narrower is read-only.
    void read(std::uint64_t offset, std::span<std::byte> data) noexcept;
    void write(std::uint64_t offset, std::span<const std::byte> data) noexcept;

    enum class Reply : std::uint8_t {
        accepted,
        retry,
        refused, ///< dropped; a software error is recorded, unless the PASID is not known
    };
    // A 64-byte write to a portal of queue `index`, limited or not.
    /// ENQCMD, ENQCMDS: the PASID is the host's. Only shared queues accept.
    Reply enqueue(unsigned index, bool limited, const Descriptor& command) noexcept;
    /// MOVDIR64B: only dedicated queues accept.
    Reply post(unsigned index, const Descriptor& command) noexcept;
    /// By plain stores, for CPUs without those instructions: both kinds; the PASID is the guest's.
    Reply submit(unsigned index, bool limited, const Descriptor& command) noexcept;

    [[nodiscard]] std::vector<QueueInfo> queues() const;

private:
    struct Engine final : Pace {
        explicit Engine(Accelerator& of) : owner{of} {}
        [[nodiscard]] bool go_on() noexcept override {
            return !interrupted.load(std::memory_order_relaxed) || owner.go_on(*this);
        }
        Accelerator& owner;
        std::unique_ptr<Copier> copier{};
        std::thread thread{};
        std::atomic<bool> interrupted{false}; ///< cancelled or paused; written with mutex_ held
        // Guarded by mutex_.
        bool cancelled{};
        bool at_rest{true};             ///< touches no memory, and interrupts nobody
        std::vector<unsigned> queues{}; ///< of its group
        std::size_t next{};             ///< where the round goes on
        bool running{};
        unsigned queue{};
        std::uint64_t number{};
        std::optional<iommu::HostPasid> pasid{};
    };
    struct Pending {
        Command command{};
        std::uint32_t queues{};         ///< bit mask
        std::shared_ptr<Space> space{}; ///< work of this PASID only
        std::uint64_t number{};         ///< work up to this one is waited for
        bool interrupt{};
        [[nodiscard]] std::optional<iommu::HostPasid> pasid() const {
            return space ? std::optional{space->pasid()} : std::nullopt;
        }
    };
    struct SoftwareError {
        std::uint8_t code{};
        std::optional<unsigned> queue{};
        const Descriptor* descriptor{}; ///< PASID and operation
        std::optional<std::uint16_t> batch_index{};
        std::uint64_t address{};
        bool write{};
    };
    /// Interrupts to be raised once the lock is released.
    struct Raise {
        std::uint32_t vectors{};
    };
    struct Permission {
        std::uint32_t word{};
        std::shared_ptr<Space> space{};
    };

    // With mutex_ held.
    [[nodiscard]] std::uint32_t get(std::uint64_t offset) const;
    void set(std::uint64_t offset, std::uint32_t value, Raise& raise);
    void set_permission(unsigned vector, std::uint32_t value);
    void set_cause(std::uint32_t bits, Raise& raise);
    void report(const SoftwareError& error, Raise& raise);
    void begin_command(std::uint32_t value, Raise& raise);
    void finish_command(std::uint8_t error, bool interrupt, Raise& raise);
    void registers_state(State& state);
    void queues_state(State& state);
    [[nodiscard]] CommandError enable_device();
    [[nodiscard]] CommandError check_groups() const;
    [[nodiscard]] CommandError enable_queue(std::uint32_t operand);
    [[nodiscard]] CommandError prepare(Pending& pending, std::uint32_t operand);
    [[nodiscard]] CommandError select_queues(Pending& pending, std::uint32_t operand) const;
    void try_finish(Raise& raise);
    void abort(std::uint32_t queues, std::optional<iommu::HostPasid> pasid);
    [[nodiscard]] bool quiet(const Pending& pending) const;
    void complete(const Pending& pending);
    void reset_all();
    void begin(Pending pending, Raise& raise);
    [[nodiscard]] std::optional<Submission> take(Engine& engine);
    void interrupt_engines();
    void rest(Engine& engine, std::unique_lock<std::mutex>& lock);
    [[nodiscard]] Limits limits_of(const WorkQueue& queue) const;

    // Without it.
    enum class Arrival : std::uint8_t { enqueued, posted, stored };
    Reply accept(unsigned index, bool limited, Arrival arrival, Submission submission);
    void work(Engine& engine) noexcept;
    [[nodiscard]] bool go_on(Engine& engine) noexcept;
    struct Execution;
    struct Verdict;
    void execute(Engine& engine, const Submission& submission, const Limits& limits, bool bus_master) noexcept;
    [[nodiscard]] Verdict judge(const Execution& execution, const Descriptor& descriptor, const Limits& limits) const;
    [[nodiscard]] std::optional<unsigned> vector_of(const Execution& execution, const Descriptor& descriptor) const;
    [[nodiscard]] Outcome run_batch(Operation& operation, const Execution& execution);
    /// Writes the record and interrupts, or reports why it cannot be.
    void conclude(const Execution& execution, const Descriptor& descriptor, const Outcome& outcome,
                  std::optional<unsigned> vector, std::optional<std::uint16_t> batch_index);
    void report_error(const SoftwareError& error);
    void deliver(const Raise& raise) const noexcept;

    const Shape shape_;
    const AcceleratorContext context_;
    log::Throttle limiter_{};

    mutable std::mutex mutex_;         // guards all below
    std::condition_variable work_{};   ///< there is some, or a reason to end or to go on
    std::condition_variable rested_{}; ///< an engine came to rest
    std::vector<std::unique_ptr<Engine>> engines_{};
    std::vector<WorkQueue> queues_;
    std::array<std::uint32_t, max_engines * group_stride / 4> groups_{};
    std::array<Permission, max_vectors> permissions_{};
    BusState bus_{};
    DeviceState state_{DeviceState::disabled};
    std::uint32_t gencfg_{};
    std::uint32_t genctrl_{};
    std::uint32_t intcause_{};
    std::uint32_t cmdsts_{};
    std::array<std::uint64_t, 4> swerr_{};
    std::optional<Pending> pending_{};
    bool stopping_{};
    bool paused_{};
    std::atomic<std::uint64_t> submissions_{}; ///< number of the last one; read without the lock by idle engines
};

} // namespace inox::devices::dsa
