// SPDX-License-Identifier: Apache-2.0
#include "devices/vfio/config_map.hpp"

#include <algorithm>
#include <array>
#include <set>

#include "devices/pci/msi.hpp"

namespace inox::devices::vfio {
namespace {

using pci::ConfigSpace;
namespace reg = pci::reg;

constexpr unsigned capabilities_start = 0x40;
constexpr unsigned extended_start = 0x100;
constexpr std::uint16_t status_capabilities = 1 << 4;

// Conventional capability ids (PCI Code and ID Assignment 1.11, section 2).
constexpr std::uint8_t power_management = 0x01;
constexpr std::uint8_t msi = 0x05;
constexpr std::uint8_t express = 0x10;
constexpr std::uint8_t msix = 0x11;
constexpr std::uint8_t advanced_features = 0x13;
constexpr std::uint8_t enhanced_allocation = 0x14; // names host addresses

struct Field {
    unsigned offset;
    unsigned size;
};

/// The header's registers that inox answers for. The others show what the device has: status, cache line size, latency
/// timer, CardBus pointer, grant and latency.
constexpr std::array<Field, 10> owned_header{{
    {reg::vendor, 4},
    {reg::command, 2},
    {reg::revision, 4},
    {reg::header_type, 2}, // and BIST, which a guest must not start
    {reg::bar0, 24},
    {reg::subsystem_vendor, 4},
    {reg::expansion_rom, 4},
    {reg::capabilities, 8}, // and the reserved bytes behind it
    {reg::interrupt_line, 1},
    {reg::interrupt_pin, 1},
}};

/// Extended capabilities that a guest does not see: they affect the host's side of the bus, allow what inox does not
/// virtualise (addresses, functions, translations), or describe a link that a device on the root bus does not have.
struct Hidden {
    std::uint16_t id;
    unsigned size; ///< with the header
};
constexpr std::array<Hidden, 20> hidden_extended{{
    {0x0d, 0x08}, // access control services
    {0x0e, 0x08}, // alternative routing id
    {0x0f, 0x08}, // address translation services
    {0x10, 0x40}, // single root I/O virtualisation
    {0x11, 0x40}, // multi root I/O virtualisation
    {0x12, 0x30}, // multicast
    {0x13, 0x10}, // page requests
    {0x15, 0x34}, // resizable BARs
    {0x18, 0x08}, // latency tolerance
    {0x19, 0x0c}, // secondary PCI Express
    {0x1b, 0x08}, // PASID
    {0x1d, 0x10}, // downstream port containment
    {0x1e, 0x10}, // L1 substates
    {0x1f, 0x0c}, // precision time
    {0x24, 0x34}, // resizable BARs of virtual functions
    {0x25, 0x0c}, // data link features
    {0x26, 0x20}, // 16 GT/s
    {0x27, 0x08}, // lane margining
    {0x2a, 0x20}, // 32 GT/s
    {0x2e, 0x08}, // data object exchange
}};

constexpr unsigned null_capability = 0;

/// Lays out one capability after the other.
class Planner {
public:
    Planner(std::span<const std::byte> device, const ConfigChoices& choices, ConfigSpace& shadow, ConfigPlan& plan)
        : device_{device}, choices_{choices}, shadow_{shadow}, plan_{plan} {}

    void header() {
        for (const auto& field : owned_header)
            plan_.map.own(field.offset, field.size);
    }

    void conventional() {
        if (!(get<std::uint16_t>(reg::status) & status_capabilities))
            return;
        const auto chain = conventional_chain();
        for (const unsigned at : chain) {
            const auto id = get<std::uint8_t>(at);
            if (hidden(id)) {
                plan_.map.own(at, 2);
                continue;
            }
            shadow_.reserve(at, extent(chain, at, ConfigSpace::conventional));
            own(at, 2);
            shadow_.link_capability(at, id);
            adapt(at, id);
        }
    }

    void extended() {
        if (device_.size() <= extended_start)
            return;
        const auto chain = extended_chain();
        // Whatever the device has there, the guest's chain starts with inox's own header.
        plan_.map.own(extended_start, 4);
        for (const unsigned at : chain) {
            shadow_.reserve(at, extent(chain, at, device_.size()));
            const auto header = get<std::uint32_t>(at);
            const auto id = static_cast<std::uint16_t>(header);
            const auto* hidden = std::ranges::find(hidden_extended, id, &Hidden::id);
            if (id == null_capability || hidden != hidden_extended.end()) {
                const unsigned size = hidden == hidden_extended.end() ? 4 : hidden->size;
                own(at, std::min(size, extent(chain, at, device_.size())));
                continue;
            }
            own(at, 4);
            shadow_.link_extended_capability(at, id, static_cast<std::uint8_t>(header >> 16 & 0xf));
        }
    }

    /// Puts capabilities of inox's own into bytes that the device does not use.
    Result<void> synthesise() {
        for (unsigned at = extended_start; at + 4 <= device_.size(); at += 4)
            if (get<std::uint32_t>(at) != 0)
                shadow_.reserve(at, 4);
        for (const auto& capability : choices_.synthesised) {
            const unsigned at = TRY(shadow_.add_extended_capability(capability.id, capability.version, capability.body,
                                                                    capability.writable));
            plan_.map.own(at, static_cast<unsigned>(4 + capability.body.size()));
        }
        return {};
    }

private:
    template <std::unsigned_integral T> [[nodiscard]] T get(unsigned offset) const {
        return load_le<T>(device_.subspan(std::min<std::size_t>(offset, device_.size())));
    }

    [[nodiscard]] std::vector<unsigned> conventional_chain() const {
        std::vector<unsigned> chain;
        unsigned at = get<std::uint8_t>(reg::capabilities) & 0xfcU;
        while (at >= capabilities_start && std::ranges::find(chain, at) == chain.end()) {
            chain.push_back(at);
            at = get<std::uint8_t>(at + 1) & 0xfcU;
        }
        return chain;
    }

    [[nodiscard]] std::vector<unsigned> extended_chain() const {
        std::vector<unsigned> chain;
        std::set<unsigned> seen;
        unsigned at = extended_start;
        while (at >= extended_start && at + 4 <= device_.size() && seen.insert(at).second) {
            const auto header = get<std::uint32_t>(at);
            if (header == 0 || header == ~std::uint32_t{0})
                break;
            chain.push_back(at);
            at = header >> 20 & 0xffcU;
        }
        return chain;
    }

    /// Up to the next capability, as the length of most capabilities is not known otherwise.
    static unsigned extent(const std::vector<unsigned>& chain, unsigned at, std::size_t end) {
        auto next = static_cast<unsigned>(end);
        for (const unsigned other : chain)
            if (other > at)
                next = std::min(next, other);
        constexpr unsigned longest = 0x100;
        return std::min(next - at, longest);
    }

    [[nodiscard]] bool hidden(std::uint8_t id) const {
        return id == enhanced_allocation || (id == msi && !choices_.msi) || (id == msix && !choices_.msix);
    }

    /// Makes inox answer for these bytes, with zeros at first.
    void own(unsigned offset, unsigned size) {
        plan_.map.own(offset, size);
        for (unsigned at = offset; at < std::min<std::size_t>(offset + size, device_.size()); ++at)
            shadow_.set<std::uint8_t>(at, 0);
    }

    void adapt(unsigned at, std::uint8_t id) {
        switch (id) {
        case power_management:
            return adapt_power(at);
        case msi:
            return adapt_msi(at);
        case msix:
            if (plan_.msix || at + 12 > ConfigSpace::conventional)
                return;
            plan_.msix = at;
            return own(at + 2, 10);
        case express:
            return adapt_express(at);
        case advanced_features:
            if (constexpr std::uint8_t has_reset = 2; get<std::uint8_t>(at + 3) & has_reset)
                plan_.features_control = at + 4;
            return;
        default:
            return;
        }
    }

    void adapt_msi(unsigned at) {
        const auto size = pci::MsiLayout::decode(at, get<std::uint16_t>(at + 2)).size();
        if (!plan_.msi && at + size <= ConfigSpace::conventional)
            plan_.msi = at;
        own(at + 2, std::min(size, ConfigSpace::conventional - at) - 2);
    }

    /// The device stays in D0 whatever the guest writes: in D3 the host would end the guest's access to the BARs. It
    /// sends no wake-up events. Its state survives a change of power state, because it sees no such change.
    void adapt_power(unsigned at) {
        constexpr std::uint16_t wake_up_support = 0xf800;
        constexpr std::uint16_t no_soft_reset = 1 << 3;
        constexpr std::uint16_t power_state = 3;
        if (at + 8 > ConfigSpace::conventional)
            return;
        const auto abilities = get<std::uint16_t>(at + 2);
        own(at + 2, 6);
        shadow_.set(at + 2, static_cast<std::uint16_t>(abilities & ~wake_up_support));
        shadow_.set(at + 4, no_soft_reset);
        shadow_.allow_writes(at + 4, power_state);
    }

    /// There is no link on the root bus, so an endpoint is shown as one integrated into the root complex.
    void adapt_express(unsigned at) {
        constexpr unsigned type_shift = 4;
        constexpr unsigned endpoint = 0;
        constexpr unsigned legacy_endpoint = 1;
        constexpr unsigned integrated_endpoint = 9;
        constexpr std::uint32_t has_reset = 1U << 28;
        constexpr std::uint16_t tolerance_and_flush = 0x6400; // latency tolerance reports, buffer flush and fill
        if (at + 0x14 > ConfigSpace::conventional)
            return;
        const unsigned flags = get<std::uint16_t>(at + 2);
        const unsigned type = flags >> type_shift & 0xf;
        if (get<std::uint32_t>(at + 4) & has_reset)
            plan_.express_control = at + 8;
        if (type == endpoint || type == legacy_endpoint)
            plan_.link_status = at + 0x12;
        const bool has_second_registers = (flags & 0xf) >= 2 && at + 0x3c <= ConfigSpace::conventional;
        if (has_second_registers)
            plan_.map.limit_writes(at + 0x28, static_cast<std::uint16_t>(~tolerance_and_flush));
        if (type != endpoint && type != legacy_endpoint)
            return;
        own(at + 2, 2);
        shadow_.set(at + 2,
                    static_cast<std::uint16_t>((flags & ~(0xfU << type_shift)) | integrated_endpoint << type_shift));
        own(at + 0x0c, 8);
        if (has_second_registers)
            own(at + 0x2c, 8);
    }

    std::span<const std::byte> device_;
    const ConfigChoices& choices_;
    ConfigSpace& shadow_;
    ConfigPlan& plan_;
};

} // namespace

void ConfigMap::own(unsigned offset, unsigned size) {
    for (unsigned at = offset; at < std::min<std::size_t>(offset + size, owned_.size()); ++at)
        owned_[at] = true;
}

void ConfigMap::limit_writes(unsigned offset, std::uint16_t mask) {
    passed_[offset] = static_cast<std::byte>(mask & 0xff);
    passed_[offset + 1] = static_cast<std::byte>(mask >> 8);
}

bool ConfigMap::all_owned(unsigned offset, std::size_t size) const {
    for (std::size_t at = offset; at < offset + size; ++at)
        if (!owned(static_cast<unsigned>(at)))
            return false;
    return true;
}

Result<ConfigPlan> plan_config(std::span<const std::byte> device, const ConfigChoices& choices, ConfigSpace& shadow) {
    const auto type = load_le<std::uint8_t>(device.subspan(reg::header_type)) & 0x7f;
    if (type != 0)
        return fail(Errc::unsupported, format("its header is of type %d: only endpoints can be assigned", type),
                    "assign the devices behind the bridge");
    ConfigPlan plan{.map = ConfigMap{static_cast<unsigned>(device.size())}};
    Planner planner{device, choices, shadow, plan};
    planner.header();
    planner.conventional();
    planner.extended();
    TRY_VOID(planner.synthesise());
    return plan;
}

} // namespace inox::devices::vfio
