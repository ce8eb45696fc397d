// SPDX-License-Identifier: Apache-2.0
// What operators see of a machine's IOMMU and PASIDs. The parts of the machine that know fill in the functions.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "iommu/endpoint_memory.hpp"
#include "vmm/memory/dma_memory.hpp"

namespace inox::iommu {
class Domains;
}

namespace inox {

struct IommuView {
    struct Reserved {
        std::uint64_t start;
        std::uint64_t last; ///< inclusive
        std::string kind;   ///< "reserved", "msi" or "direct"
    };
    struct Endpoint {
        std::uint32_t id;
        std::string device;                  ///< for people
        std::string state;                   ///< "blocked", "bypassed", "attached" or "lost"
        std::optional<std::uint32_t> domain; ///< empty: attached to none
        std::vector<Reserved> reserved;
        /// Of an emulated device: the host's own IOMMU does not tell.
        std::optional<iommu::EndpointMemory::Counts> counts{};
    };
    struct Domain {
        std::uint32_t id;
        bool bypass;
        std::vector<std::uint32_t> endpoints;
        std::uint64_t mappings;
    };
    struct Fault {
        std::uint32_t endpoint;
        std::uint64_t address;
        std::string reason;
        std::string access; ///< "r", "w" or "rw"
    };
    bool driver{false}; ///< the guest has one for its IOMMU, and it is ready
    bool bypass{false}; ///< what endpoints without a domain do
    std::vector<Endpoint> endpoints{};
    std::vector<Domain> domains{};
    std::uint64_t fault_count{0};
    std::vector<Fault> last_faults{}; ///< oldest first
};

struct IommuMapping {
    std::uint64_t iova_start;
    std::uint64_t iova_last; ///< inclusive
    std::uint64_t physical;
    std::string access; ///< "r", "rw", ...
};

struct IommuMappings {
    std::vector<IommuMapping> items{};
    std::uint64_t total{0};              ///< of the domain
    std::optional<std::uint64_t> next{}; ///< where to go on
};

struct PasidView {
    struct Set {
        std::uint32_t id;
        std::string owner;
        std::uint32_t quota;
        std::uint32_t used;
    };
    struct Holder {
        std::string name; ///< "guest driver", "address spaces", "translation table", or a device's
        std::uint32_t references;
    };
    struct Id {
        std::uint32_t host;
        std::optional<std::uint32_t> guest; ///< the SPID
        std::uint32_t set;
        std::string state; ///< "idle", "active" or "free pending"
        std::vector<Holder> holders;
        std::vector<std::string> bound; ///< devices
    };
    /// A device that page tables can be bound for, or the reason why not.
    struct Endpoint {
        std::uint32_t id;
        std::string device;
        bool assigned;
        std::string refusal; ///< empty: it has PASIDs
    };
    struct Counters {
        std::uint64_t submissions{};  ///< descriptors that queues accepted
        std::uint64_t retries{};      ///< submissions to full queues
        std::uint64_t refused{};      ///< to queues that are off or of the other kind, or with an unknown PASID
        std::uint64_t instructions{}; ///< ENQCMD, ENQCMDS and MOVDIR64B carried out
        std::uint64_t exceptions{};   ///< raised in the guest instead
        std::uint64_t untranslated{}; ///< of these, for PASIDs that are not in the table
        std::uint64_t faults{};       ///< DMA that page tables refused
    };
    struct Translation {
        std::uint32_t guest;
        std::uint32_t host;
    };
    std::vector<Set> sets{};
    std::vector<Id> ids{};            ///< a part of them, ascending by host id; sets tell how many there are
    std::vector<Translation> table{}; ///< of these
    std::vector<Endpoint> endpoints{};
    Counters counters{};
};

/// Called on the loop's thread; empty, or returning nothing, when the machine has no such part.
struct MachineViews {
    std::function<std::optional<IommuView>()> iommu{};
    /// At most `limit` that start at or after `from`, in order; nothing without such a domain.
    std::function<std::optional<IommuMappings>(std::uint32_t domain, std::uint64_t from, std::size_t limit)> mappings{};
    /// At most `most` PASIDs, without the first `skip`.
    std::function<std::optional<PasidView>(std::size_t skip, std::size_t most)> pasids{};
};

/// "r", "w" or "rw"
std::string access_text(Access access);

/// Of the guest's IOMMU; it must outlive the functions. Null: there is none.
void show_iommu(MachineViews& views, const iommu::Domains* domains);

} // namespace inox
