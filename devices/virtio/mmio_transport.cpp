// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/mmio_transport.hpp"

#include "devices/state_fields.hpp"

namespace inox::devices::virtio {
namespace {

// Registers (4.2.2).
namespace reg {
enum : std::uint64_t {
    magic = 0x000,
    version = 0x004,
    device_id = 0x008,
    vendor_id = 0x00c,
    device_features = 0x010,
    device_features_sel = 0x014,
    driver_features = 0x020,
    driver_features_sel = 0x024,
    queue_sel = 0x030,
    queue_num_max = 0x034,
    queue_num = 0x038,
    queue_ready = 0x044,
    queue_notify = 0x050,
    interrupt_status = 0x060,
    interrupt_ack = 0x064,
    status = 0x070,
    queue_desc = 0x080,
    queue_driver = 0x090,
    queue_device = 0x0a0,
    shm_len = 0x0b0,
    shm_base = 0x0b8,
    queue_reset = 0x0c0,
    config_generation = 0x0fc,
    config = 0x100,
};
} // namespace reg

constexpr std::uint32_t magic_value = 0x74726976; // "virt"
constexpr std::uint32_t vendor = 0x786f6e69;      // "inox"
constexpr std::uint8_t interrupt_queue = 1;
constexpr std::uint8_t interrupt_config = 2;

std::uint64_t with_half(std::uint64_t whole, bool high, std::uint32_t value) {
    return high ? (whole & 0xffffffff) | (std::uint64_t{value} << 32) : (whole & ~std::uint64_t{0xffffffff}) | value;
}

} // namespace

MmioTransport::MmioTransport(std::shared_ptr<Device> device, const TransportContext& context, Range<Gpa> registers,
                             unsigned gsi)
    : transport_{std::move(device), context.memory, *this, false}, registers_{registers}, gsi_{gsi} {}

Result<std::shared_ptr<MmioTransport>> MmioTransport::create(std::shared_ptr<Device> device,
                                                             const TransportContext& context, Range<Gpa> registers,
                                                             unsigned gsi) {
    std::shared_ptr<MmioTransport> own{new MmioTransport{std::move(device), context, registers, gsi}};
    own->irq_ = TRY(context.irqs.line(gsi, TriggerMode::edge));
    TRY_VOID(own->transport_.attach(context.loop));
    for (unsigned queue = 0; queue < own->transport_.queue_count(); ++queue)
        own->doorbells_.push_back(TRY(
            context.doorbells.add(registers.start() + reg::queue_notify, 4, queue, own->transport_.doorbell(queue))));
    return own;
}

void MmioTransport::read(std::uint64_t offset, std::span<std::byte> data) noexcept {
    if (offset >= reg::config)
        return device().read_config(offset - reg::config, data);
    // 4.2.2.2: registers are 32 bits wide, aligned.
    store_le(data, data.size() == 4 && offset % 4 == 0 ? read_register(offset) : 0);
}

void MmioTransport::write(std::uint64_t offset, std::span<const std::byte> data) noexcept {
    if (offset >= reg::config)
        return device().write_config(offset - reg::config, data);
    if (data.size() == 4 && offset % 4 == 0)
        write_register(offset, load_le<std::uint32_t>(data));
}

std::uint32_t MmioTransport::read_register(std::uint64_t offset) noexcept {
    switch (offset) {
    case reg::magic:
        return magic_value;
    case reg::version:
        return 2;
    case reg::device_id:
        return static_cast<std::uint32_t>(device().type());
    case reg::vendor_id:
        return vendor;
    case reg::device_features:
        return transport_.offered(device_feature_select_);
    case reg::queue_num_max:
        return transport_.queue(queue_select_).max_size;
    case reg::queue_ready:
        return transport_.queue(queue_select_).enabled || transport_.resetting() ? 1 : 0;
    case reg::queue_reset:
        return transport_.resetting() ? 1 : 0;
    case reg::interrupt_status:
        return interrupt_status_;
    case reg::status:
        return transport_.status();
    case reg::config_generation:
        return transport_.config_generation();
    case reg::shm_len:
    case reg::shm_len + 4:
    case reg::shm_base:
    case reg::shm_base + 4:
        return 0xffffffff; // 4.2.2.1: there is no such region
    default:
        return 0;
    }
}

void MmioTransport::write_register(std::uint64_t offset, std::uint32_t value) noexcept {
    switch (offset) {
    case reg::device_features_sel:
        device_feature_select_ = value;
        return;
    case reg::driver_features:
        return transport_.accept(driver_feature_select_, value);
    case reg::driver_features_sel:
        driver_feature_select_ = value;
        return;
    case reg::queue_sel:
        queue_select_ = value;
        return;
    case reg::queue_notify: // only writes that the kernel's doorbell did not take
        if (value < transport_.queue_count())
            transport_.doorbell(value).signal();
        return;
    case reg::interrupt_ack:
        interrupt_status_ &= static_cast<std::uint8_t>(~value);
        return;
    case reg::status:
        transport_.set_status(static_cast<std::uint8_t>(value));
        if ((value & 0xff) == 0)
            interrupt_status_ = 0;
        return;
    default:
        return write_queue_register(offset, value);
    }
}

void MmioTransport::write_queue_register(std::uint64_t offset, std::uint32_t value) noexcept {
    const unsigned queue = queue_select_;
    auto address = [&](std::uint64_t TransportCore::QueueState::*field, bool high) {
        transport_.set_queue(queue, [&](auto& state) { state.*field = with_half(state.*field, high, value); });
    };
    switch (offset) {
    case reg::queue_num:
        return transport_.set_queue(queue, [&](auto& state) {
            // A size that does not fit 16 bits must not be truncated to one that does.
            state.size = value > 0xffff ? std::uint16_t{0} : static_cast<std::uint16_t>(value);
        });
    case reg::queue_ready:
        return value == 1 ? transport_.enable_queue(queue) : transport_.reset_queue(queue);
    case reg::queue_reset:
        return value == 1 ? transport_.reset_queue(queue) : void();
    case reg::queue_desc:
    case reg::queue_desc + 4:
        return address(&TransportCore::QueueState::descriptors, offset != reg::queue_desc);
    case reg::queue_driver:
    case reg::queue_driver + 4:
        return address(&TransportCore::QueueState::available, offset != reg::queue_driver);
    case reg::queue_device:
    case reg::queue_device + 4:
        return address(&TransportCore::QueueState::used, offset != reg::queue_device);
    default:
        return;
    }
}

void MmioTransport::state(State& state) {
    state.version(1);
    atomic_number(state, "device_feature_select", device_feature_select_);
    atomic_number(state, "driver_feature_select", driver_feature_select_);
    atomic_number(state, "queue_select", queue_select_);
    atomic_number(state, "interrupt_status", interrupt_status_, 0, interrupt_queue | interrupt_config);
    if (state.ok())
        state.part("transport", [this](State& part) { transport_.state(part); });
}

void MmioTransport::resume() noexcept {
    if (interrupt_status_ != 0)
        irq_->trigger();
    device().resume();
}

void MmioTransport::interrupt(std::uint8_t bit) noexcept {
    interrupt_status_ |= bit;
    irq_->trigger();
}

void MmioTransport::used_buffers(unsigned) noexcept { interrupt(interrupt_queue); }

void MmioTransport::config_changed() noexcept {
    transport_.bump_config_generation();
    interrupt(interrupt_config);
}

void MmioTransport::needs_reset() noexcept {
    if (transport_.set_needs_reset())
        interrupt(interrupt_config);
}

} // namespace inox::devices::virtio
