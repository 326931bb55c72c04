package appliance

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"periph.io/x/conn/v3/driver/driverreg"
	"periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/gpio/gpioreg"
	"periph.io/x/conn/v3/i2c/i2creg"
	"periph.io/x/conn/v3/spi/spireg"

	"kith/edge/reader/pn532"
)

// openPN532 makes a driver for the configured transport. The device itself is opened by the driver, as often as it has to:
// a reader that is not plugged in yet is a red line in the health tree, not a failed start.
func (a *Appliance) openPN532(r Reader) (Presenter, error) {
	kind, device, _ := strings.Cut(r.PN532, ":")
	switch kind {
	case "hsu":
		return pn532.New(func() (pn532.Transport, error) { return pn532.OpenHSU(device, pn532.HSUOptions{}) }, pn532.Options{Baud: r.Baud}), nil
	case "spi":
		return pn532.New(func() (pn532.Transport, error) { return openSPI(device, r) }, pn532.Options{}), nil
	case "i2c":
		return pn532.New(func() (pn532.Transport, error) { return openI2C(device, r) }, pn532.Options{}), nil
	}
	return nil, fmt.Errorf("pn532 %q: want hsu:, spi: or i2c:", r.PN532)
}

// openSPI claims the port and the two wires that make SPI the right bus for this chip: IRQ, so that nothing polls, and
// RSTPDN, so that a hung chip can be restarted.
func openSPI(device string, r Reader) (pn532.Transport, error) {
	if _, err := driverreg.Init(); err != nil {
		return nil, fmt.Errorf("starting the host drivers: %w", err)
	}
	irq, reset, err := wires(r)
	if err != nil {
		return nil, err
	}
	port, err := spireg.Open(device)
	if err != nil {
		return nil, err
	}
	t, err := pn532.NewSPI(port, pn532.SPIOptions{IRQ: irq, Reset: reset})
	if err != nil {
		return nil, errors.Join(err, port.Close())
	}
	return closing{t, port}, nil
}

func openI2C(device string, r Reader) (pn532.Transport, error) {
	if _, err := driverreg.Init(); err != nil {
		return nil, fmt.Errorf("starting the host drivers: %w", err)
	}
	irq, reset, err := wires(r)
	if err != nil {
		return nil, err
	}
	bus, err := i2creg.Open(device)
	if err != nil {
		return nil, err
	}
	t, err := pn532.NewI2C(bus, pn532.I2COptions{IRQ: irq, Reset: reset})
	if err != nil {
		return nil, errors.Join(err, bus.Close())
	}
	return closing{t, bus}, nil
}

// closing gives the bus back together with the transport, so that the driver can open both again.
type closing struct {
	pn532.Transport
	bus io.Closer
}

func (c closing) Close() error { return errors.Join(c.Transport.Close(), c.bus.Close()) }

func wires(r Reader) (irq gpio.PinIn, reset gpio.PinOut, err error) {
	if r.IRQ != "" {
		p := gpioreg.ByName(r.IRQ)
		if p == nil {
			return nil, nil, fmt.Errorf("irq: this machine has no pin %s", r.IRQ)
		}
		irq = p
	}
	if r.Reset != "" {
		p := gpioreg.ByName(r.Reset)
		if p == nil {
			return nil, nil, fmt.Errorf("reset: this machine has no pin %s", r.Reset)
		}
		reset = p
	}
	return irq, reset, nil
}
