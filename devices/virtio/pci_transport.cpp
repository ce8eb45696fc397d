// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/pci_transport.hpp"

#include <algorithm>
#include <array>
#include <unistd.h>

#include "devices/pci/root_bus.hpp"
#include "devices/state_fields.hpp"

namespace inox::devices::virtio {
namespace {

// The BAR has a page for each structure, so the page with the doorbells holds nothing else.
constexpr unsigned bar = 0;
constexpr std::uint64_t bar_size = 0x10000;
constexpr std::uint32_t common_offset = 0x0000;
constexpr std::uint32_t common_size = 60;
constexpr std::uint32_t isr_offset = 0x1000;
constexpr std::uint32_t device_offset = 0x2000;
constexpr std::uint32_t device_size = 0x1000;
constexpr std::uint32_t notify_offset = 0x3000;
constexpr std::uint32_t notify_size = 0x1000;
constexpr std::uint32_t notify_multiplier = 4;
constexpr std::uint32_t msix_table_offset = 0x8000;
constexpr std::uint32_t msix_pba_offset = 0xf000;

// Structure kinds (4.1.4).
constexpr std::uint8_t kind_common = 1;
constexpr std::uint8_t kind_notify = 2;
constexpr std::uint8_t kind_isr = 3;
constexpr std::uint8_t kind_device = 4;
constexpr std::uint8_t kind_pci_cfg = 5;

constexpr std::uint8_t vendor_capability = 0x09;
constexpr std::uint8_t isr_queue = 1;
constexpr std::uint8_t isr_config = 2;

constexpr std::uint32_t class_of(Type type) {
    switch (type) {
    case Type::net:
        return 0x020000;
    case Type::block:
        return 0x010000;
    case Type::console:
        return 0x078000;
    case Type::fs:
        return 0x018000;
    case Type::iommu:
        return 0x080600;
    default:
        return 0x00ff00;
    }
}

pci::Identity identity_of(Type type) {
    const auto number = static_cast<std::uint16_t>(type);
    return {0x1af4, static_cast<std::uint16_t>(0x1040 + number), class_of(type), 1,
            0x1af4, static_cast<std::uint16_t>(0x40 + number)};
}

pci::MsixLayout msix_layout(const Device& device) {
    // One vector for each queue, and one for configuration changes.
    return {static_cast<std::uint16_t>(device.queue_sizes().size() + 1), bar, msix_table_offset, bar, msix_pba_offset};
}

} // namespace

PciTransport::PciTransport(std::shared_ptr<Device> device, const TransportContext& context)
    : Function{identity_of(device->type())}, context_{context}, endpoint_{context.iommu && device->translatable()
                                                                              ? context.iommu->make_memory()
                                                                              : nullptr},
      transport_{device, endpoint_ ? *endpoint_ : context.memory, *this, endpoint_ != nullptr}, msix_{context.irqs,
                                                                                                      msix_layout(
                                                                                                          *device)},
      queue_vectors_(device->queue_sizes().size()) {
    for (auto& vector : queue_vectors_)
        vector = no_vector;
}

PciTransport::~PciTransport() = default;

Result<std::shared_ptr<PciTransport>> PciTransport::create(std::shared_ptr<Device> device,
                                                           const TransportContext& context) {
    std::shared_ptr<PciTransport> transport{new PciTransport{std::move(device), context}};
    TRY_VOID(transport->build());
    TRY_VOID(transport->transport_.attach(context.loop));
    return transport;
}

Result<void> PciTransport::build() {
    TRY_VOID(config().add_bar(bar, {pci::BarKind::memory32, bar_size, false}));
    TRY_VOID(msix_.add_capability(config()));
    TRY_VOID(add_structure(kind_common, common_offset, common_size));
    TRY_VOID(add_structure(kind_isr, isr_offset, 1));
    TRY_VOID(add_structure(kind_device, device_offset, device_size));
    TRY_VOID(add_structure(kind_notify, notify_offset, notify_size));
    TRY_VOID(add_structure(kind_pci_cfg, 0, 0));
    config().set_interrupt_pin(1);
    return {};
}

Result<void> PciTransport::add_structure(std::uint8_t kind, std::uint32_t offset, std::uint32_t length) {
    // cap_len, cfg_type, bar, id, padding, offset, length, then what the kind adds (4.1.4).
    std::array<std::byte, 18> body{};
    const std::size_t size = kind == kind_notify || kind == kind_pci_cfg ? 18 : 14;
    body[0] = static_cast<std::byte>(size + 2);
    body[1] = static_cast<std::byte>(kind);
    body[2] = static_cast<std::byte>(bar);
    store_le(std::span{body}.subspan(6, 4), offset);
    store_le(std::span{body}.subspan(10, 4), length);
    if (kind == kind_notify)
        store_le(std::span{body}.subspan(14, 4), notify_multiplier);
    std::array<std::byte, 18> writable{};
    if (kind == kind_pci_cfg) {
        writable[2] = std::byte{0xff}; // bar, offset, length: the driver picks its window
        for (std::size_t i = 6; i < 14; ++i)
            writable[i] = std::byte{0xff};
    }
    const auto at = TRY(config().add_capability(vendor_capability, std::span{body}.first(size), writable));
    if (kind == kind_pci_cfg)
        pci_cfg_ = at;
    return {};
}

Result<void> PciTransport::on_added(pci::Address address) {
    place_ = address;
    if (endpoint_)
        endpoint_stay_ = TRY(context_.iommu->add_endpoint(iommu::pci_endpoint(address.slot, address.function),
                                                          device().name(), *endpoint_));
    intx_ = TRY(context_.irqs.line(pci::intx_gsi(address.slot, config().interrupt_pin()), TriggerMode::level));
    if (intx_->resample_fd() >= 0)
        resample_watch_ = TRY(context_.loop.watch(intx_->resample_fd(), [this] {
            std::uint64_t count = 0;
            (void)!::read(intx_->resample_fd(), &count, sizeof count);
            if (isr_ != 0 && !msix_.enabled())
                intx_->trigger();
        }));
    return {};
}

void PciTransport::on_removed() noexcept { endpoint_stay_.reset(); }

void PciTransport::on_bar_mapped(unsigned, Gpa address) noexcept {
    if (device().serves_at_once())
        return; // a write to a doorbell must exit
    for (unsigned queue = 0; queue < transport_.queue_count(); ++queue) {
        // Any width: the kernel compares only the address.
        auto doorbell = context_.doorbells.add(address + notify_offset + std::uint64_t{queue} * notify_multiplier, 0,
                                               {}, transport_.doorbell(queue));
        if (doorbell)
            doorbells_.push_back(std::move(*doorbell));
        else if (limiter_.allow()) // the write exits and bar_write() notifies: slower but correct
            log::write(log::Level::warning, "%s: %s", device().name().c_str(), doorbell.error().message().c_str());
    }
}

void PciTransport::on_bar_unmapped(unsigned) noexcept { doorbells_.clear(); }

void PciTransport::config_read(unsigned offset, std::span<std::byte> data) noexcept {
    // 4.1.4.9: reading the window's data reads the BAR.
    if (offset == pci_cfg_ + 16 && data.size() <= 4) {
        const auto length = config().get<std::uint32_t>(pci_cfg_ + 12);
        if (config().get<std::uint8_t>(pci_cfg_ + 4) == bar && length == data.size()) {
            bar_read(bar, config().get<std::uint32_t>(pci_cfg_ + 8), data);
            return;
        }
    }
    config().read(offset, data);
}

void PciTransport::config_write(unsigned offset, std::span<const std::byte> data) noexcept {
    if (offset == pci_cfg_ + 16 && data.size() <= 4) {
        const auto length = config().get<std::uint32_t>(pci_cfg_ + 12);
        if (config().get<std::uint8_t>(pci_cfg_ + 4) == bar && length == data.size())
            bar_write(bar, config().get<std::uint32_t>(pci_cfg_ + 8), data);
        return;
    }
    config().write(offset, data);
}

/// A register of the common configuration, found by its offset alone.
struct PciTransport::CommonRegister {
    unsigned offset;
    std::uint64_t (*read)(PciTransport&);
    void (*write)(PciTransport&, std::uint64_t value, unsigned size){}; ///< null: read-only

    /// The low and the high half of a 64-bit register; an access to all of it uses the low half's offset.
    template <auto Field> static constexpr CommonRegister low(unsigned offset) {
        return {offset, [](PciTransport& t) { return t.selected().*Field; },
                [](PciTransport& t, std::uint64_t value, unsigned size) {
                    t.transport_.set_queue(t.queue_select_, [&](auto& state) {
                        const std::uint64_t kept = size == 8 ? 0 : state.*Field & ~std::uint64_t{0xffffffff};
                        state.*Field = kept | (size == 8 ? value : value & 0xffffffff);
                    });
                }};
    }
    template <auto Field> static constexpr CommonRegister high(unsigned offset) {
        return {offset, [](PciTransport& t) { return t.selected().*Field >> 32; },
                [](PciTransport& t, std::uint64_t value, unsigned) {
                    t.transport_.set_queue(t.queue_select_, [&](auto& state) {
                        state.*Field = (state.*Field & 0xffffffff) | value << 32;
                    });
                }};
    }
    static const CommonRegister* find(unsigned offset);
};

/// 4.1.4.3
const PciTransport::CommonRegister* PciTransport::CommonRegister::find(unsigned offset) {
    using T = PciTransport;
    using V = std::uint64_t;
    using State = TransportCore::QueueState;
    static constexpr auto registers = std::to_array<CommonRegister>({
        {0, [](T& t) -> V { return t.device_feature_select_; },
         [](T& t, V value, unsigned) { t.device_feature_select_ = static_cast<std::uint32_t>(value); }},
        {4, [](T& t) -> V { return t.transport_.offered(t.device_feature_select_); }},
        {8, [](T& t) -> V { return t.driver_feature_select_; },
         [](T& t, V value, unsigned) { t.driver_feature_select_ = static_cast<std::uint32_t>(value); }},
        {12, [](T& t) -> V { return t.transport_.accepted(t.driver_feature_select_); },
         [](T& t, V value, unsigned) {
             t.transport_.accept(t.driver_feature_select_, static_cast<std::uint32_t>(value));
         }},
        {16, [](T& t) -> V { return t.config_vector_; },
         [](T& t, V value, unsigned) { t.config_vector_ = t.accepted_vector(value); }},
        {18, [](T& t) -> V { return t.transport_.queue_count(); }},
        {20, [](T& t) -> V { return t.transport_.status(); },
         [](T& t, V value, unsigned) { t.set_status(static_cast<std::uint8_t>(value)); }},
        {21, [](T& t) -> V { return t.transport_.config_generation(); }},
        {22, [](T& t) -> V { return t.queue_select_; },
         [](T& t, V value, unsigned) { t.queue_select_ = static_cast<std::uint16_t>(value); }},
        {24, [](T& t) -> V { return t.selected().size; },
         [](T& t, V value, unsigned) {
             t.transport_.set_queue(t.queue_select_,
                                    [&](State& state) { state.size = static_cast<std::uint16_t>(value); });
         }},
        {26,
         [](T& t) -> V {
             const unsigned queue = t.queue_select_;
             return queue < t.queue_vectors_.size() ? t.queue_vectors_[queue].load() : no_vector;
         },
         [](T& t, V value, unsigned) {
             if (const unsigned queue = t.queue_select_; queue < t.queue_vectors_.size())
                 t.queue_vectors_[queue] = t.accepted_vector(value);
         }},
        {28, [](T& t) -> V { return t.selected().enabled ? 1 : 0; },
         [](T& t, V value, unsigned) {
             if (value == 1) // 4.1.4.3.2: the driver must not write 0
                 t.transport_.enable_queue(t.queue_select_);
         }},
        {30, [](T& t) -> V { return t.queue_select_; }}, // the offset at which the queue is notified
        low<&State::descriptors>(32),
        high<&State::descriptors>(36),
        low<&State::available>(40),
        high<&State::available>(44),
        low<&State::used>(48),
        high<&State::used>(52),
        {58, [](T& t) -> V { return t.transport_.resetting() ? 1 : 0; },
         [](T& t, V value, unsigned) {
             if (value == 1)
                 t.transport_.reset_queue(t.queue_select_);
         }},
    });
    const auto found = std::ranges::find(registers, offset, &CommonRegister::offset);
    return found == registers.end() ? nullptr : &*found;
}

TransportCore::QueueState PciTransport::selected() const { return transport_.queue(queue_select_); }

/// 4.1.5.1.2
std::uint16_t PciTransport::accepted_vector(std::uint64_t value) const {
    const auto vector = static_cast<std::uint16_t>(value);
    return vector < msix_.layout().vectors ? vector : no_vector;
}

void PciTransport::set_status(std::uint8_t value) noexcept {
    transport_.set_status(value);
    if (endpoint_ && device().active())
        context_.iommu->in_use(iommu::pci_endpoint(place_.slot, place_.function));
    if (value != 0)
        return;
    config_vector_ = no_vector;
    for (auto& one : queue_vectors_)
        one = no_vector;
    (void)take_isr();
}

void PciTransport::bar_read(unsigned, std::uint64_t offset, std::span<std::byte> data) noexcept {
    if (msix_.bar_read(bar, offset, data))
        return;
    const auto* common =
        offset < common_offset + common_size ? CommonRegister::find(static_cast<unsigned>(offset)) : nullptr;
    if (common)
        store_le(data, common->read(*this));
    else if (offset == isr_offset)
        store_le(data, take_isr());
    else if (offset >= device_offset && offset < device_offset + device_size)
        device().read_config(offset - device_offset, data);
    else
        store_le(data, 0);
}

void PciTransport::bar_write(unsigned, std::uint64_t offset, std::span<const std::byte> data) noexcept {
    if (msix_.bar_write(bar, offset, data))
        return;
    if (offset < common_offset + common_size) {
        const auto* common = CommonRegister::find(static_cast<unsigned>(offset));
        if (common && common->write)
            common->write(*this, load_le(data), static_cast<unsigned>(data.size()));
    } else if (offset >= device_offset && offset < device_offset + device_size) {
        device().write_config(offset - device_offset, data);
    } else if (offset >= notify_offset && offset < notify_offset + notify_size) {
        const auto queue = (offset - notify_offset) / notify_multiplier;
        if (queue >= transport_.queue_count())
            return;
        if (device().serves_at_once())
            device().kick(static_cast<unsigned>(queue));
        else
            transport_.doorbell(static_cast<unsigned>(queue)).signal();
    }
}

std::uint8_t PciTransport::take_isr() noexcept {
    config().set_interrupt_status(false);
    return isr_.exchange(0);
}

void PciTransport::interrupt(std::uint16_t vector, std::uint8_t isr_bit) noexcept {
    if (msix_.enabled()) {
        if (vector != no_vector)
            msix_.trigger(vector);
        return;
    }
    isr_ |= isr_bit;
    config().set_interrupt_status(true);
    trigger_intx();
}

void PciTransport::trigger_intx() noexcept {
    if (intx_ && (config().command() & pci::command_bit::intx_disable) == 0)
        intx_->trigger();
}

void PciTransport::state(State& state) {
    state.version(1);
    atomic_number(state, "device_feature_select", device_feature_select_);
    atomic_number(state, "driver_feature_select", driver_feature_select_);
    atomic_number(state, "queue_select", queue_select_);
    atomic_number(state, "isr", isr_, 0, isr_queue | isr_config);
    vectors_state(state);
    if (state.ok())
        state.part("msix", [this](State& part) { msix_.state(part); });
    if (state.ok())
        state.part("transport", [this](State& part) { transport_.state(part); });
    if (!state.restores() || !state.ok())
        return;
    config().set_interrupt_status(isr_ != 0);
    if (endpoint_ && device().active())
        context_.iommu->in_use(iommu::pci_endpoint(place_.slot, place_.function));
}

void PciTransport::vectors_state(State& state) {
    struct Vector {
        std::uint16_t number{};
    };
    const auto known = [this](std::uint16_t vector) { return vector == no_vector || vector < msix_.layout().vectors; };
    std::vector<Vector> vectors;
    for (const auto& vector : queue_vectors_)
        vectors.push_back({vector.load()});
    atomic_number(state, "config_vector", config_vector_);
    state.list("queue_vectors", vectors, queue_vectors_.size(),
               [](State& one, Vector& vector) { one.number("number", vector.number); });
    state.check(vectors.size() == queue_vectors_.size() && known(config_vector_) &&
                    std::ranges::all_of(vectors, known, &Vector::number),
                "an interrupt vector that there is not");
    for (std::size_t i = 0; state.ok() && i < vectors.size(); ++i)
        queue_vectors_[i] = vectors[i].number;
}

void PciTransport::resume() noexcept {
    msix_.resume();
    if (isr_ != 0 && !msix_.enabled())
        trigger_intx();
    device().resume();
}

void PciTransport::used_buffers(unsigned queue) noexcept { interrupt(queue_vectors_[queue], isr_queue); }

void PciTransport::config_changed() noexcept {
    transport_.bump_config_generation();
    interrupt(config_vector_, isr_config);
}

void PciTransport::needs_reset() noexcept {
    if (transport_.set_needs_reset())
        interrupt(config_vector_, isr_config);
}

} // namespace inox::devices::virtio
