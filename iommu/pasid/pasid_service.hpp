// SPDX-License-Identifier: Apache-2.0
// The PASIDs of one guest: what its virtual command interface asks for, what its submissions and devices look up, and
// the order in which all of it is taken down. Ties the IOASID core, the translation table and the address spaces.
//
//   alloc   host id in this guest's set; the guest's number becomes its SPID
//   bind    (endpoint, PASID) gets an address space; the first BIND puts guest -> host into the table
//   submit  table look-up, under a pass that removal waits for
//   free    entry cleared, submissions drained, CPU's reference dropped; devices told; address spaces revoked, drained,
//           their reference dropped. The host id lives on while a device holds it.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "iommu/pasid/id_pool.hpp"
#include "iommu/pasid/ioasid.hpp"
#include "iommu/pasid/pasid_spaces.hpp"
#include "iommu/pasid/pasid_table.hpp"
#include "iommu/pasid/submission_gate.hpp"
#include "vmm/base/log.hpp"

namespace inox {
class State;
}

namespace inox::iommu {

/// What the guest is told about a command.
enum class PasidStatus : std::uint8_t {
    ok,
    exhausted,     ///< quota or numbers are used up, or the number wanted is taken
    unknown_pasid, ///< not allocated by this guest
    unknown_endpoint,
    invalid, ///< an operand makes no sense
    bound,   ///< the pair is bound already
    unbound, ///< the pair is not bound
    failed,  ///< the host refused
};

/// By which of the guest's two ways a PASID was allocated.
enum class PasidWay : std::uint8_t {
    registers,
    requests, ///< virtio-iommu's queue; a reset of that device frees these
};

/// A translation that stays good while this lives. Keep it until the command is queued (with a reference of the
/// device's) or refused; never while calling a command of PasidService.
class [[nodiscard]] Submission {
public:
    [[nodiscard]] HostPasid host() const { return host_; }

private:
    friend class PasidService;
    Submission(SubmissionGate::Pass pass, HostPasid host) : pass_{std::move(pass)}, host_{host} {}
    SubmissionGate::Pass pass_;
    HostPasid host_;
};

/// One endpoint that can do DMA with PASIDs and whose translations another IOMMU does: an assigned device. Its requests
/// carry the number that its driver, in the guest, wrote to its registers, which nobody intercepts; its PASID table in
/// the host's IOMMU is its own, too. So the guest's numbers are what is attached, and they can meet nobody else's.
class PasidAttacher {
public:
    PasidAttacher() = default;
    PasidAttacher(const PasidAttacher&) = delete;
    PasidAttacher& operator=(const PasidAttacher&) = delete;
    virtual ~PasidAttacher() = default;
    virtual Result<void> attach(GuestPasid guest, const PageTable& table) = 0;
    virtual void detach(GuestPasid guest) noexcept = 0;
    /// Nothing found before is used afterwards.
    virtual void invalidate(GuestPasid guest, std::optional<Range<Iova>> range) noexcept = 0;
};

/// Thread-safe.
class PasidService {
public:
    struct Options {
        std::uint32_t quota{1024};
        /// Host ids start here if they can, so that a guest's number used as a host's names nothing instead of
        /// something.
        HostPasid first{0x8000};
        IoasidToken token{};
    };
    /// `core` and `memory` must outlive it. no_resource: the quota cannot be had.
    static Result<std::unique_ptr<PasidService>> create(IoasidCore& core, const GuestMemory& memory, Options options);
    /// Devices must have let go of their references.
    ~PasidService();
    PasidService(const PasidService&) = delete;
    PasidService& operator=(const PasidService&) = delete;

    /// `name`, of the device, is for people.
    struct EndpointOptions {
        std::string name{};
        PasidAttacher* attacher{}; ///< null: an emulated device, which uses memory(); else it outlives the registration
        std::string refusal{};     ///< not empty: it has no PASIDs, for this reason, and is only shown
    };
    /// Page tables may be bound for this endpoint while the registration lives. already_exists.
    Result<Registration> add_endpoint(EndpointId endpoint, EndpointOptions options);
    /// Before the guest runs.
    void set_fault_sink(PasidFaultSink sink);

    // Commands of the guest.
    /// The lowest free number from 1 up, or the one wanted.
    PasidStatus alloc(GuestPasid& out, std::optional<GuestPasid> wanted = {}, PasidWay way = PasidWay::registers);
    /// The number may be allocated again at once; what is still in flight under it belongs to the old life.
    PasidStatus free(GuestPasid guest);
    PasidStatus bind(EndpointId endpoint, GuestPasid guest, const PageTable& table);
    PasidStatus unbind(EndpointId endpoint, GuestPasid guest);
    /// When it returns, the endpoint's accesses use what the tables hold now. No range: everything.
    PasidStatus invalidate(EndpointId endpoint, GuestPasid guest, std::optional<Range<Iova>> range);
    /// Frees all that the guest has. Other commands run in between.
    void reset();
    /// Frees what was allocated by requests, and not freed since by either way.
    void reset_requests();
    /// The guest's numbers, by which way they came, and what is bound; never the host's, which are others after a
    /// restore. Restoring: into a service that has given out none, whose endpoints are there; no attacher has part in
    /// it.
    void state(State& state);
    /// The guest has ended: from now on nothing is translated. Empties the table, drains submissions and drops the
    /// CPU's references; ids stay until they are freed (R38).
    void stop_submissions();

    // The CPU's side.
    [[nodiscard]] std::expected<Submission, PasidMiss> submit(GuestPasid guest) noexcept;
    [[nodiscard]] const PasidTable& table() const { return *table_; }

    // A device's side. Subscribe to set() at IoasidPriority::device: on FREE stop the work of that id, and release()
    // when none is left.
    /// The host id of a number the guest wrote to a register, with a reference of the device's (R41).
    [[nodiscard]] IoasidResult<HostPasid> acquire(GuestPasid guest);
    /// One more reference, for work put into a queue. not_found: the id is being freed.
    [[nodiscard]] IoasidResult<void> acquire(HostPasid host);
    void release(HostPasid host);
    /// Null when nothing is bound (any more): report a translation fault.
    [[nodiscard]] std::shared_ptr<const DmaMemory> memory(EndpointId endpoint, HostPasid host,
                                                          bool privileged = false) const {
        return spaces_.find(endpoint, host, privileged);
    }
    [[nodiscard]] IoasidCore& core() const { return core_; }
    [[nodiscard]] const IoasidSetRef& set() const { return set_; }

    // Sight.
    struct Binding {
        EndpointId endpoint{};
        PageTable table{};
        PasidSpace::Counts counts{};
    };
    struct Pasid {
        IoasidInfo id{};
        bool in_table{}; ///< guest -> host is in the translation table
        std::vector<Binding> bindings{};
    };
    struct Counts {
        std::uint64_t allocations{};
        std::uint64_t frees{};
        std::uint64_t binds{};
        std::uint64_t unbinds{};
        std::uint64_t invalidations{};
        std::uint64_t refused{};     ///< commands that were not ok
        std::uint64_t submissions{}; ///< translated
        std::uint64_t misses{};      ///< submissions without a translation
        std::uint64_t faults{};      ///< DMA as (endpoint, PASID) refused
    };
    struct EndpointInfo {
        EndpointId id{};
        std::string name{};
        bool assigned{};
        std::string refusal{}; ///< empty: it has PASIDs
    };
    struct Snapshot {
        IoasidSetInfo set{}; ///< `used`: how many PASIDs there are
        std::vector<EndpointInfo> endpoints{};
        std::vector<Pasid> pasids{}; ///< ascending by host id
        std::uint64_t table_bytes{};
        std::uint64_t in_flight{};
        Counts counts{};
    };
    static constexpr std::size_t most_shown = 1000;
    /// At most `most` PASIDs, without the first `skip`.
    [[nodiscard]] Snapshot snapshot(std::size_t skip = 0, std::size_t most = most_shown) const;
    [[nodiscard]] IoasidSetInfo set_info() const;
    [[nodiscard]] Counts counts() const;

private:
    /// The participant that keeps the translation table (R20, R21, R36 to R40).
    class Cpu final : public IoasidNotifier {
    public:
        explicit Cpu(PasidService& service) : service_{service} {}
        void on_ioasid(const IoasidEvent& event, IoasidContext& context) noexcept override;

    private:
        PasidService& service_;
    };
    /// The one that keeps the address spaces.
    class Spaces final : public IoasidNotifier {
    public:
        explicit Spaces(PasidService& service) : service_{service} {}
        void on_ioasid(const IoasidEvent& event, IoasidContext& context) noexcept override;

    private:
        PasidService& service_;
    };
    struct Endpoint {
        EndpointId id;
        EndpointOptions options;
        bool leaving{}; ///< nothing more is bound for it
    };

    PasidService(IoasidCore& core, const GuestMemory& memory, Options options);
    [[nodiscard]] std::vector<IoasidInfo> ids_after(std::size_t skip, std::size_t most) const;
    // With commands_ held.
    [[nodiscard]] bool may_bind(EndpointId id) const;
    [[nodiscard]] PasidAttacher* attacher(EndpointId id) const;
    [[nodiscard]] IoasidResult<HostPasid> alloc_host();
    struct Saved;
    [[nodiscard]] std::vector<Saved> save() const;
    [[nodiscard]] PasidStatus restore(const Saved& saved);
    void free_locked(GuestPasid guest, HostPasid host);
    void finish(HostPasid host, const std::vector<std::shared_ptr<PasidSpace>>& spaces);
    void remove_endpoint(EndpointId id);
    PasidStatus counted(PasidStatus status, std::atomic<std::uint64_t>& done);
    PasidStatus unbind_locked(EndpointId endpoint, HostPasid host);
    PasidStatus bind_locked(EndpointId endpoint, GuestPasid guest, const PageTable& table);
    void install(GuestPasid guest, HostPasid host, IoasidContext& context);
    void remove(HostPasid host, IoasidContext& context);

    IoasidCore& core_;
    const Options options_;
    IoasidSetRef set_;
    std::unique_ptr<PasidTable> table_;
    SubmissionGate gate_;
    PasidSpaces spaces_;
    Cpu cpu_{*this};
    Spaces iommu_{*this};
    PasidFaultSink sink_{};

    std::uint32_t moves_{0};                        ///< restores so far; changes before the guest runs
    HostPasid first_;                               ///< as Options::first, since the last of them
    mutable std::mutex commands_;                   ///< one command at a time; taken before the core's locks
    IdPool numbers_;                                // guarded by commands_: the guest's
    std::unordered_set<std::uint32_t> requested_{}; // guarded by commands_: the guest's numbers allocated by requests
    mutable std::mutex endpoints_mutex_; ///< taken last; held for moments, so that sight waits for no command
    std::vector<Endpoint> endpoints_;    // changed with both locks held, read with either
    log::Throttle refusals_{};
    std::vector<std::shared_ptr<PasidSpace>> revoked_; // filled by the handler of FREE, which runs inside free_locked

    std::mutex cpu_mutex_;
    std::unordered_map<std::uint32_t, GuestPasid> in_table_; // guarded by cpu_mutex_: by host id
    bool stopped_{false};                                    // guarded by cpu_mutex_

    struct Counters {
        std::atomic<std::uint64_t> allocations, frees, binds, unbinds, invalidations, refused, faults;
        alignas(64) std::atomic<std::uint64_t> submissions;
        alignas(64) std::atomic<std::uint64_t> misses;
    };
    Counters counters_{};
    std::array<Registration, 2> registrations_{};
};

} // namespace inox::iommu
