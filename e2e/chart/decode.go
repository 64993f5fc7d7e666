package chart

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// Objects are the decoded objects of a chart, each kind by "namespace/name".
type Objects struct {
	Deployments map[string]*appsv1.Deployment
	Services    map[string]*corev1.Service
	Accounts    map[string]*corev1.ServiceAccount
	Gateways    map[string]*gatewayv1.Gateway
	Autoscalers map[string]*autoscalingv2.HorizontalPodAutoscaler
	Budgets     map[string]*policyv1.PodDisruptionBudget
}

// Decode reads manifests strictly. An unknown field, a key that is there twice, an unexpected kind and an object that is there twice are errors.
func Decode(manifests []string) (Objects, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, autoscalingv2.AddToScheme, policyv1.AddToScheme, gatewayv1.Install} {
		if err := add(scheme); err != nil {
			return Objects{}, err
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	out := Objects{
		Deployments: map[string]*appsv1.Deployment{}, Services: map[string]*corev1.Service{}, Accounts: map[string]*corev1.ServiceAccount{},
		Gateways: map[string]*gatewayv1.Gateway{}, Autoscalers: map[string]*autoscalingv2.HorizontalPodAutoscaler{},
		Budgets: map[string]*policyv1.PodDisruptionBudget{},
	}
	for _, text := range manifests {
		object, kind, err := decoder.Decode([]byte(text), nil, nil)
		if err != nil {
			return Objects{}, fmt.Errorf("%w in\n%s", err, text)
		}
		switch o := object.(type) {
		case *appsv1.Deployment:
			err = put(out.Deployments, o.Namespace, o.Name, o)
		case *corev1.Service:
			err = put(out.Services, o.Namespace, o.Name, o)
		case *corev1.ServiceAccount:
			err = put(out.Accounts, o.Namespace, o.Name, o)
		case *gatewayv1.Gateway:
			err = put(out.Gateways, o.Namespace, o.Name, o)
		case *autoscalingv2.HorizontalPodAutoscaler:
			err = put(out.Autoscalers, o.Namespace, o.Name, o)
		case *policyv1.PodDisruptionBudget:
			err = put(out.Budgets, o.Namespace, o.Name, o)
		default:
			err = fmt.Errorf("kind %s is not one that the chart makes", kind)
		}
		if err != nil {
			return Objects{}, err
		}
	}
	return out, nil
}

func put[T any](to map[string]T, namespace, name string, object T) error {
	key := namespace + "/" + name
	if _, ok := to[key]; ok {
		return fmt.Errorf("%T %s is there twice", object, key)
	}
	to[key] = object
	return nil
}
