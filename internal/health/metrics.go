package health

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics is one program's registry. Names begin with "kith_"; a label never carries a person, a card or free text.
type Metrics struct{ registry *prometheus.Registry }

// NewMetrics makes a registry with the process's own figures and, when tree is not nil, the health of every part.
func NewMetrics(tree *Tree) *Metrics {
	m := &Metrics{prometheus.NewRegistry()}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if tree != nil {
		m.registry.MustRegister(treeCollector{tree})
	}
	return m
}

// Handler answers a scrape.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Counter only grows.
type Counter struct{ vec *prometheus.CounterVec }

// Counter registers a counter; its name ends in _total. A wrong or doubled name is a mistake in the program and panics.
func (m *Metrics) Counter(name, help string, labels ...string) Counter {
	c := Counter{prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)}
	m.registry.MustRegister(c.vec)
	return c
}

// Add counts n more under the given label values.
func (c Counter) Add(n uint64, values ...string) { c.vec.WithLabelValues(values...).Add(float64(n)) }

// Gauge goes up and down.
type Gauge struct{ vec *prometheus.GaugeVec }

// Gauge registers a gauge.
func (m *Metrics) Gauge(name, help string, labels ...string) Gauge {
	g := Gauge{prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)}
	m.registry.MustRegister(g.vec)
	return g
}

// Set sets the gauge under the given label values.
func (g Gauge) Set(v float64, values ...string) { g.vec.WithLabelValues(values...).Set(v) }

// Forget drops one set of label values: an edge that was retired.
func (g Gauge) Forget(values ...string) { g.vec.DeleteLabelValues(values...) }

// Func registers a gauge that is read at each scrape.
func (m *Metrics) Func(name, help string, read func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read))
}

// Histogram sorts durations and sizes into buckets.
type Histogram struct{ vec *prometheus.HistogramVec }

// Histogram registers a histogram; its name ends in its unit, such as _seconds.
func (m *Metrics) Histogram(name, help string, buckets []float64, labels ...string) Histogram {
	h := Histogram{prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)}
	m.registry.MustRegister(h.vec)
	return h
}

// Observe sorts one value in.
func (h Histogram) Observe(v float64, values ...string) { h.vec.WithLabelValues(values...).Observe(v) }

// treeCollector shows each part of the tree as 1 (well) or 0.
type treeCollector struct{ tree *Tree }

func partDesc() *prometheus.Desc {
	return prometheus.NewDesc("kith_part_healthy", "1 when this part of the program and all it depends on are well, else 0.", []string{"part"}, nil)
}

func (c treeCollector) Describe(out chan<- *prometheus.Desc) { out <- partDesc() }

func (c treeCollector) Collect(out chan<- prometheus.Metric) {
	desc := partDesc()
	var walk func(Node)
	walk = func(n Node) {
		v := 0.0
		if n.State == OK {
			v = 1
		}
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, v, n.Name)
		for _, child := range n.Children {
			walk(child)
		}
	}
	walk(c.tree.Snapshot())
}
